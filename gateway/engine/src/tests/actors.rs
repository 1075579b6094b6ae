//! Who changed what of control.

use omium_api::port::{NewKey, Role};
use omium_schemas::{Block, BlockKind, Money, Offset, Partition, Price};

use super::{Desk, ONE};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_changes_control_stands_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    let (served, caller) = (&desk.served, &desk.caller);
    served.publish(caller, "one.yaml", ONE).await.unwrap();
    let wanted = NewKey { role: Role::Viewer, days: None, name: Some("alice".to_owned()) };
    let issued = served.issue_key(caller, wanted).await.unwrap();
    assert_eq!(issued.view.name.as_deref(), Some("alice"));
    assert!(served.keys(caller).await.unwrap().contains(&issued.view));
    served.revoke_key(caller, &issued.view.key).await.unwrap();
    let price = Price { input: Money(1), cached: Money(1), output: Money(1) };
    served.set_price(caller, "m".to_owned(), price).await.unwrap();
    let guard = serde_json::json!({ "name": "g", "agent": "a", "rule": "output != ''" });
    served.set_guard(caller, serde_json::from_value(guard).unwrap()).await.unwrap();
    served.drop_guard(caller, "g").await.unwrap();

    let (log, mut actors) = (&desk.engine.history.log, Vec::new());
    for partition in (0..log.partitions()).map(Partition) {
        for entry in log.read(partition, Offset(0), 1 << 20).await.unwrap() {
            let block = Block::parse(entry.bytes).unwrap();
            let frames =
                if block.head.kind == BlockKind::Frames { block.frames().unwrap() } else { Vec::new() };
            let control =
                frames.into_iter().filter(|frame| frame.head.stream == super::super::control_key().stream);
            actors.extend(control.map(|frame| frame.head.actor));
        }
    }
    let own = Some(caller.key.clone());
    let expected = [vec![None; 2], vec![own; 6]].concat();
    assert_eq!(actors, expected, "a tenant and its first key are the node's own doing");
    desk.engine.stop().await.unwrap();
}
