//! The commands, run as people run them: the real binary, a server of its own in a folder of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;

use std::process::{Command, Stdio};

use desk::{Dev, OMIUM, omium, plain};

#[test]
fn a_workflow_survives_a_kill_and_ends_where_it_should() {
    let mut dev = Dev::start();
    let id = dev.started();
    dev.says(&["signal", &id, "check", r#"{"fine": 1}"#]);
    let before = dev.says(&["show", &id]);
    dev.kill_and_start();
    assert_eq!(dev.says(&["show", &id]), before);
    assert_eq!(
        plain(&before, &id),
        "review ID · running\n├─ ✓ check · done\n└─ ? sign · asking\nseq 10 · branch 0 · cost $0 · state HASH\ninputs: {\"amount\":9007199254740993}"
    );
    assert_eq!(
        dev.fails(&["signal", &id, "sign", r#"{"ok": false}"#], 5),
        "error: `sign` is not what the step waits for: `output.ok == true` does not hold\nhint: correct it and send it again"
    );
    dev.says(&["signal", &id, "sign", r#"{"ok": true, "by": "Ann"}"#]);
    let shown: serde_json::Value = serde_json::from_str(&dev.says(&["show", &id, "--json"])).unwrap();
    assert_eq!((&shown["status"], &shown["output"]["by"]), (&"completed".into(), &"Ann".into()));

    let verified = dev.says(&["checkpoints", "verify", &id]);
    assert_eq!(plain(&verified, &id), "ID: 3 checkpoints and the state at seq 15 are what the log says");
    let marks = dev.says(&["checkpoints", "list", &id]);
    let done: Vec<&str> = marks.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(done[1..], ["check", "check,sign"]);
    let replayed = dev.says(&["replay", &id]);
    assert!(
        plain(&replayed, &id).ends_with("folded 15 records again: the same state as the live one, HASH"),
        "{replayed}"
    );
    let before: serde_json::Value =
        serde_json::from_str(&dev.says(&["checkpoints", "show", &id, "step:sign:before", "--json"])).unwrap();
    assert_eq!(
        (&before["steps"][0]["status"], &before["steps"][1]["status"]),
        (&"done".into(), &"blocked".into())
    );
    let by_step = dev.says(&["checkpoints", "diff", &id, "step:check:before", "step:sign:after"]);
    assert!(by_step.contains("/steps/1/status"), "{by_step}");
    let nobody = dev.fails(&["checkpoints", "show", &id, "step:nobody:before"], 4);
    assert!(nobody.starts_with(&format!("error: {id} has no step `nobody`")), "{nobody}");
    let diff = dev.says(&["checkpoints", "diff", &id, "4", "9"]);
    assert!(
        diff.contains("/steps/0/status: \"asking\" → \"done\"") || diff.contains("/steps/0/status"),
        "{diff}"
    );
}

#[test]
fn options_that_have_no_effect_are_refused_and_not_shown() {
    let dev = Dev::start();
    let file = dev.data.path().join("review.yaml");
    let file = file.to_str().unwrap();
    for (words, said) in [
        (
            vec!["workflows", "validate", file, "--url", "http://x"],
            "`omium workflows validate` has no use for --url",
        ),
        (
            vec!["show", "ex_1", "--content", "inputs", "--json"],
            "`omium show --content` has no use for --json",
        ),
        (vec!["log", "verify", file, "--key", "k"], "`omium log` has no use for --key"),
    ] {
        let refused = dev.fails(&words, 2);
        assert!(refused.contains(said), "{refused}");
    }
    for words in [["log", "verify", "--help"], ["workflows", "validate", "--help"]] {
        let help = dev.says(&words);
        assert!(!help.contains("--url") && !help.contains("--key"), "{help}");
    }
    assert!(dev.says(&["workflows", "list", "--help"]).contains("--url"));
    for url in ["x", "https://", "ftp://a", "localhost:7460"] {
        let output = desk::omium_with(dev.data.path(), &["list"], &[("OMIUM_URL", url)]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let expected = format!(
            "error: OMIUM_URL is `{url}`, which is no address of an Omium\nhint: write http://HOST:PORT"
        );
        assert!(said.starts_with(&expected), "{said}");
    }
    let (url, _) = dev.address();
    let secure = url.replace("http://", "https://");
    let said = dev.fails(&["list", "--url", &secure], 3);
    assert!(said.contains(&format!("hint: Omium itself speaks http: try {url};")), "{said}");
    let run = dev.run(&["run", file, "--input", r#"{"amount": 1}"#]);
    assert_eq!(String::from_utf8_lossy(&run.stderr), "published review@1\n");
    let again = dev.run(&["run", file, "--input", r#"{"amount": 1}"#]);
    assert_eq!(String::from_utf8_lossy(&again.stderr), "");
}

#[test]
fn a_run_is_rolled_back_forked_paused_and_cancelled() {
    let dev = Dev::start();
    let id = dev.started();
    dev.says(&["signal", &id, "check", "1"]);
    assert_eq!(
        dev.fails(&["rollback", &id, "step:check:before"], 5),
        "error: sign still runs\nhint: wait for it, or roll back with `--cancel-running`"
    );
    dev.says(&["rollback", &id, "step:check:before", "--cancel-running"]);
    assert!(dev.says(&["show", &id]).contains("├─ ? check · asking\n└─ · sign · blocked"));
    assert_eq!(
        dev.fails(&["rollback", &id, "nowhere"], 4).lines().next().unwrap(),
        format!("error: {id} has no checkpoint `nowhere`")
    );

    dev.says(&["signal", &id, "check", "2"]);
    let fork = dev.says(&["fork", &id, "step:check:after", "--input", r#"{"amount": 1}"#]);
    assert_ne!(fork, id);
    assert!(dev.says(&["show", &fork]).contains("├─ ✓ check · done\n└─ ? sign · asking"));

    dev.says(&["pause", &id]);
    assert_eq!(dev.says(&["list", "--status", "paused", "--json"]).matches(&id).count(), 1);
    dev.fails(&["pause", &id], 5);
    dev.says(&["resume", &id]);
    dev.says(&["cancel", &id]);
    assert_eq!(
        dev.fails(&["resume", &id], 5),
        format!("error: {id} was cancelled\nhint: nothing changes it any more")
    );
    assert_eq!(dev.fails(&["retry", &id], 5).lines().next().unwrap(), format!("error: {id} has not failed"));
}

#[test]
fn a_watched_run_goes_on_through_a_kill_of_its_server() {
    let mut dev = Dev::start();
    let id = dev.started();
    let watch = Command::new(OMIUM)
        .args(["logs", "--follow", &id])
        .env("OMIUM_DATA", dev.data.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    dev.says(&["signal", &id, "check", "1"]);
    dev.says(&["signal", &id, "sign", r#"{"ok": true}"#]);
    let said = watch.wait_with_output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.trim_end().ends_with("ExecutionCompleted"), "{said}");
    let seqs: Vec<u64> =
        said.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    assert_eq!(seqs, (1..=15).collect::<Vec<_>>());
    dev.kill_and_start();
    assert_eq!(dev.says(&["logs", &id]), said.trim_end());
}

#[test]
fn mistakes_get_an_error_that_says_what_to_do() {
    let dev = Dev::start();
    let file = dev.data.path().join("wrong.yaml");
    std::fs::write(&file, "name: w\nagents:\n  - {id: a, framewrok: native}\n").unwrap();
    let file = file.to_str().unwrap();
    let wrong = dev.fails(&["workflows", "validate", file], 5);
    assert_eq!(wrong, format!("{file}:3:13: an agent has no `framewrok`\n  hint: did you mean `framework`?"));
    assert_eq!(dev.fails(&["run", file], 5).lines().nth(1).unwrap(), "  hint: did you mean `framework`?");
    assert_eq!(
        dev.fails(&["run", "nothing"], 4),
        "error: there is no workflow `nothing`\nhint: publish it first: `omium workflows publish FILE`"
    );
    assert_eq!(
        dev.fails(&["show", "ex_1"], 4),
        "error: `ex_1` is no execution's id\nhint: ids look like ex_…; `omium list` shows them"
    );
    dev.started();
    assert_eq!(
        dev.fails(&["run", "reveiw"], 4),
        "error: there is no workflow `reveiw`\nhint: did you mean `review`?"
    );
    assert!(
        dev.fails(&["run", "review", "--input", "{}"], 5)
            .starts_with("error: the inputs do not fit the schema of `review`: ")
    );
    assert_eq!(
        dev.fails(&["run", "review", "--input", "{"], 1),
        "error: the argument:1:1: this is not JSON: EOF while parsing an object"
    );
    assert!(dev.fails(&["lst"], 2).contains("a similar subcommand exists: 'list'"));
    let second = omium(dev.data.path(), &["dev", "--port", "0"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("is in use by another omium process"));
    let alone = tempfile::tempdir().unwrap();
    let output = omium(alone.path(), &["list", "--url", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .ends_with("hint: start one with `omium dev`, or name another with --url or OMIUM_URL\n")
    );
}

#[test]
fn a_file_is_read_before_anybody_is_asked() {
    let alone = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = alone.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (mut missing, text) = (alone.path().to_owned(), file("latin.yaml", b"name: w\nagents: \xe4\n"));
    missing.push("missing.yaml");
    let (missing, inputs) = (missing.to_str().unwrap(), file("inputs.json", b"{\n  \"a\": 1,\n}"));
    let at = format!("@{inputs}");
    let not_there = format!("{missing} cannot be read: No such file or directory (os error 2)");
    let no_text = format!("{text}:2:9: this is not UTF-8; save the file as UTF-8");
    let no_json = format!("{inputs}:3:1: this is not JSON: trailing comma");
    for (words, told) in [
        (vec!["run", missing], &not_there),
        (
            vec!["run", "missing.yaml"],
            &"missing.yaml cannot be read: No such file or directory (os error 2)".to_owned(),
        ),
        (vec!["workflows", "publish", missing], &not_there),
        (vec!["workflows", "validate", missing], &not_there),
        (vec!["run", &text], &no_text),
        (vec!["run", "loan", "--input", &at], &no_json),
        (vec!["fork", "ex_1", "last", "--input", &at], &no_json),
        (vec!["signal", "ex_1", "go", &at], &no_json),
        (vec!["answer", "ex_1", "happened", "--result", &at], &no_json),
        (vec!["guard", "add", "--agent", "a", "--schema", &at], &no_json),
    ] {
        // `validate` asks nobody.
        let nowhere: &[&str] =
            if words.contains(&"validate") { &[] } else { &["--url", "http://127.0.0.1:1"] };
        let output = omium(alone.path(), &[&words[..], nowhere].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (said.trim_end(), output.status.code()),
            (&*format!("error: {told}"), Some(1)),
            "{words:?}"
        );
    }
    let wrong = file("wrong.yaml", b"name: w\nagents: [{id: a, framewrok: native}]\n");
    let both = omium(alone.path(), &["workflows", "validate", missing, &wrong]);
    let said = String::from_utf8_lossy(&both.stderr).into_owned();
    assert!(said.contains(&not_there) && said.contains("has no `framewrok`"), "{said}");
}
