//! Keys: let in, listed, limited to their roles, shut out.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;

use desk::Dev;
use serde_json::Value;

fn listed(dev: &Dev) -> Vec<(String, String)> {
    let list: Value = serde_json::from_str(&dev.says(&["keys", "list", "--json"])).unwrap();
    let of = |key: &Value, field: &str| key[field].as_str().unwrap().to_owned();
    let items = list["items"].as_array().unwrap();
    items.iter().map(|key| (of(key, "key"), of(key, "role"))).collect()
}

#[test]
fn a_key_opens_what_its_role_allows_until_it_is_revoked_also_after_a_kill() {
    let mut dev = Dev::start();
    let own = listed(&dev).remove(0);
    assert_eq!(own.1, "admin");

    let bearer = dev.says(&["keys", "issue", "--role", "viewer", "--days", "7", "--name", "alice"]);
    let public = bearer.split('_').nth(1).unwrap().to_owned();
    assert_eq!(listed(&dev).len(), 2);
    let table = dev.says(&["keys", "list"]);
    assert!(!table.contains(bearer.rsplit('_').next().unwrap()), "what opens a door is said once: {table}");
    assert!(table.lines().next().unwrap().starts_with("KEY"));
    assert!(table.lines().any(|line| line.contains(&public) && line.contains("alice")), "{table}");

    dev.kill_and_start();
    dev.says(&["list", "--key", &bearer]);
    let file = dev.data.path().join("review.yaml");
    let refused = dev.fails(&["run", file.to_str().unwrap(), "--key", &bearer], 5);
    assert!(refused.contains("a key of role viewer may not do this; it takes developer"), "{refused}");
    assert!(dev.fails(&["keys", "list", "--key", &bearer], 5).contains("it takes admin"));

    assert_eq!(dev.says(&["keys", "revoke", &public]), format!("key {public} opens nothing any more"));
    assert!(dev.fails(&["list", "--key", &bearer], 5).contains("revoked"));
    assert_eq!(listed(&dev), std::slice::from_ref(&own));

    let again = dev.fails(&["keys", "revoke", &public], 4);
    assert!(again.contains(&format!("there is no key `{public}`")), "{again}");
    assert!(dev.fails(&["keys", "revoke", &own.0], 5).contains("a key does not revoke itself"));
    assert!(dev.fails(&["keys", "issue", "--role", "viewer", "--days", "0"], 5).contains("say 1 to 3650"));
    let unnamed = dev.fails(&["keys", "issue", "--role", "viewer", "--name", "a b"], 5);
    assert!(unnamed.contains("`a b` is no name for a key"), "{unnamed}");
}
