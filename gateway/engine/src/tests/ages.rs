//! Data folders that are put together of parts of different age.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Desk, Engine, ONE, Options};

/// A data folder at two moments.
struct Moments {
    dir: tempfile::TempDir,
}

impl Moments {
    async fn new() -> Moments {
        let dir = tempfile::tempdir().unwrap();
        let moments = Moments { dir };
        let desk = Desk::open(&moments.place("new")).await;
        desk.served.publish(&desk.caller, "f", ONE).await.unwrap();
        moments.use_for_a_while(desk).await;
        copy(&moments.place("new"), &moments.place("old"));
        moments.use_for_a_while(Desk::open(&moments.place("new")).await).await;
        moments
    }

    fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn use_for_a_while(&self, desk: Desk) {
        // Enough of them for every partition, and long enough for the blobs.
        for _ in 0..8 {
            desk.started_as("one", None, json!({ "text": "0123456789abcdef".repeat(6_000) })).await.unwrap();
        }
        desk.by_status().await;
        desk.engine.stop().await.unwrap();
    }

    /// The newer folder with these parts of the older one.
    fn with_old(&self, parts: &[&str]) -> PathBuf {
        let place = self.place(&format!("with-old-{}", parts.join("-")));
        copy(&self.place("new"), &place);
        for part in parts {
            let at = place.join(part);
            if at.is_dir() { std::fs::remove_dir_all(&at) } else { std::fs::remove_file(&at) }.unwrap();
            copy(&self.place("old").join(part), &at);
        }
        place
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// Why a node does not open here.
async fn refusal(data: &Path) -> String {
    let host = super::super::Host::default();
    let options = Options { data: data.to_owned(), partitions: 2, kafka: None, host };
    let error = Engine::open(&options).await.err().expect("it is not whole");
    // Whoever starts it stays, and says so.
    assert!(super::super::of_other_ages(&error).is_some(), "{error}");
    let why = error.to_string();
    let again =
        Engine::open(&options).await.err().expect("nothing was changed by the first start").to_string();
    assert_eq!(why, again);
    why
}

async fn opens(data: &Path) -> Vec<String> {
    let desk = Desk::open(data).await;
    let reasons = desk.served.wholeness().into_iter().map(|reason| reason.text).collect();
    desk.engine.stop().await.unwrap();
    reasons
}

#[tokio::test]
async fn an_older_part_among_newer_ones_is_told_and_nothing_is_written_on() {
    let moments = Moments::new().await;
    assert_eq!(opens(&moments.with_old(&["index"])).await, Vec::<String>::new(), "what is folded catches up");
    assert_eq!(opens(&moments.with_old(&["state"])).await, Vec::<String>::new(), "what is folded catches up");

    let keys = moments.with_old(&["keys"]);
    let why = refusal(&keys).await;
    assert!(why.contains("keys is older than the log") && why.contains("newest copy"), "{why}");
    let number = why.split("write ").nth(1).unwrap().split(' ').next().unwrap();
    std::fs::write(keys.join("keys.older"), "yes, go on").unwrap();
    let why = refusal(&keys).await;
    assert!(why.contains("what that file says now is another number, or none"), "{why}");
    std::fs::write(keys.join("keys.older"), number).unwrap();
    for _ in 0..2 {
        assert_eq!(opens(&keys).await, Vec::<String>::new(), "an operator has said so");
    }

    let why = refusal(&moments.with_old(&["log"])).await;
    assert!(why.contains("the state store has seen"), "{why}");
    let why = refusal(&moments.with_old(&["log", "state"])).await;
    assert!(why.contains("log is older than the rest of") && why.contains("folder `index`"), "{why}");
    let why = refusal(&moments.with_old(&["log", "state", "seen"])).await;
    assert!(why.contains("log is older than the folder `index`"), "{why}");
    assert!(!why.contains("the rest of"), "{why}");

    let published = moments.with_old(&["log", "state", "seen", "index"]);
    let seen = std::fs::read_to_string(published.join("seen")).unwrap();
    let log = seen.lines().next().unwrap();
    std::fs::create_dir(published.join("published")).unwrap();
    let position = json!({ "log": log, "next": 1_000, "epoch": 1, "no": 1, "prev": null });
    std::fs::write(published.join("published/omium.events-1.json"), position.to_string()).unwrap();
    let why = refusal(&published).await;
    assert!(why.contains("log is older than what was published") && why.contains("offset 1000"), "{why}");
    std::fs::remove_dir_all(published.join("published")).unwrap();
    assert_eq!(opens(&published).await, Vec::<String>::new());

    let blobs = moments.with_old(&["blobs"]);
    for _ in 0..2 {
        let reasons = opens(&blobs).await;
        assert!(reasons[0].contains("blobs is older than the log"), "{reasons:?}");
    }
    std::fs::remove_file(blobs.join("seen")).unwrap();
    assert_eq!(opens(&blobs).await, Vec::<String>::new(), "an operator has said so");
}
