//! The cases: every parser, every amplifier, every rule and schema that multiplies, every route that needs no key, every
//! misbehaviour of a vendor.

use std::time::Duration;

use serde_json::{Value, json};

use super::blow::{Ask, Blow, By, get, post};
use super::rogue::MANNERS;
use super::texts::{self, arrays, objects};

/// What is wanted of a node beside going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Any answer that is not the node's own failure.
    Answer,
    /// A refusal of each request.
    Refusal,
    /// Success of each request.
    Success,
    /// Whatever it says: the vendor, or too much at once, is to blame.
    Anything,
}

/// One case.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) want: Want,
    /// Made when it is its turn: all at once they would fill the memory.
    pub(crate) blows: Box<dyn Fn() -> Vec<Blow>>,
}

fn case(name: impl Into<String>, want: Want, blows: impl Fn() -> Vec<Blow> + 'static) -> Case {
    Case { name: name.into(), want, blows: Box::new(blows) }
}

fn one(name: impl Into<String>, want: Want, ask: impl Fn() -> Ask + 'static) -> Case {
    case(name, want, move || vec![Blow::Ask(ask())])
}

/// All of them, in turn.
pub(crate) fn cases() -> Vec<Case> {
    let groups: [fn() -> Vec<Case>; 9] =
        [parsers, rules, schemas, amplifiers, strangers, vendors, paths, known, tools];
    groups.iter().flat_map(|group| group()).collect()
}

/// Where JSON is read, by whose key.
const READERS: &[(By, &str)] = &[
    (By::Attempt, "{gate}/v1/chat/completions"),
    (By::Attempt, "{gate}/v1/completions"),
    (By::Attempt, "{gate}/v1/embeddings"),
    (By::Attempt, "{gate}/v1/responses"),
    (By::Attempt, "{gate}/tools"),
    (By::Attempt, "{gate}/tools/1"),
    (By::Attempt, "{gate}/fence"),
    (By::Developer, "/api/v1/executions"),
    (By::Viewer, "/api/v1/workflows/validate"),
    (By::Developer, "/api/v1/workflows"),
    (By::Developer, "/api/v1/programs"),
    (By::Developer, "/api/v1/executions/{execution}/attempts"),
    (By::Developer, "/api/v1/executions/{execution}/attempts/end"),
    (By::Developer, "/api/v1/executions/{execution}/signal"),
    (By::Developer, "/api/v1/executions/{execution}/answer"),
    (By::Developer, "/api/v1/executions/{execution}/decision"),
    (By::Developer, "/api/v1/executions/{execution}/rollback"),
    (By::Developer, "/api/v1/executions/{execution}/fork"),
    (By::Developer, "/api/v1/executions/{execution}/checkpoints"),
    (By::Admin, "/api/v1/guards"),
    (By::Admin, "/api/v1/keys"),
];

/// Everything that reads what nests, closed and unclosed.
fn parsers() -> Vec<Case> {
    let mut all = Vec::new();
    for (by, path) in READERS {
        for closed in [true, false] {
            let name = |what: &str| {
                format!("{what} within {what}, {}, to {path}", if closed { "closed" } else { "unclosed" })
            };
            all.push(one(name("arrays"), Want::Answer, move || {
                post(*by, path, "", arrays(200_000, closed).as_bytes())
            }));
            all.push(one(name("objects"), Want::Answer, move || {
                post(*by, path, "", objects(100_000, closed).as_bytes())
            }));
        }
        let wrapped = move || {
            let body = format!(r#"{{"model":"m","messages":[],"name":"n","x":{}}}"#, arrays(200_000, true));
            post(*by, path, "", body.as_bytes())
        };
        all.push(one(format!("arrays in a field, to {path}"), Want::Answer, wrapped));
    }
    for (name, text) in documents() {
        let yaml = "content-type: application/yaml\r\n";
        all.push(one(format!("a document of {name}"), Want::Refusal, move || {
            post(By::Developer, "/api/v1/workflows", yaml, text().as_bytes())
        }));
    }
    all
}

type Text = fn() -> String;

fn documents() -> Vec<(&'static str, Text)> {
    vec![
        ("flow sequences", || format!("name: {}", arrays(100_000, true))),
        ("flow sequences without an end", || format!("name: {}", arrays(100_000, false))),
        ("flow maps", || format!("name: {}", texts::nest("{a: ", "1", "}", 100_000, true))),
        ("flow maps without an end", || format!("name: {}", texts::nest("{a: ", "1", "}", 100_000, false))),
        ("block sequences", || format!("name:\n{}1", "- ".repeat(100_000))),
        ("block maps", || (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect()),
        ("explicit keys", || "? ".repeat(100_000)),
        ("aliases of aliases", || {
            let level =
                |n: usize| format!("a{}: &a{} [{}]\n", n + 1, n + 1, vec![format!("*a{n}"); 9].join(","));
            format!("a0: &a0 x\n{}", (0..12).map(level).collect::<String>())
        }),
        ("an alias of itself", || "name: &a [*a]".to_owned()),
        ("anchors and tags", || format!("name: {}x", "!!str &a ".repeat(50_000))),
        ("many documents", || "--- a\n".repeat(100_000)),
    ]
}

/// What a rule sees: numbers enough to multiply.
fn numbers() -> String {
    format!(r#"{{"x":[{}1.0]}}"#, "1.0,".repeat(4_999))
}

fn native(more: Value) -> String {
    let mut agent = json!({ "id": "a", "framework": "native", "model": "good", "prompt": "hi", "retry": { "attempts": 1 } });
    if let (Some(agent), Value::Object(more)) = (agent.as_object_mut(), more) {
        agent.extend(more);
    }
    json!({ "name": "NAME", "agents": [agent] }).to_string()
}

fn rules() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, rule) in texts::rules() {
        let of_inputs = rule.replace('X', "inputs.x");
        all.push(case(format!("a rule over inputs: {name}"), Want::Answer, move || {
            vec![Blow::Run { definition: native(json!({ "require": of_inputs })), inputs: numbers() }]
        }));
        let of_output = rule.replace('X', "output");
        all.push(case(format!("a rule over a long answer: {name}"), Want::Answer, move || {
            let more =
                json!({ "model": "many-numbers", "output_schema": { "type": "array" }, "ensure": of_output });
            vec![Blow::Run { definition: native(more), inputs: "{}".to_owned() }]
        }));
        all.push(guarded(name, json!({ "rule": rule.replace('X', "value") })));
    }
    for (at, (name, rule)) in texts::deep_rules(20_000).into_iter().enumerate() {
        let rule = rule.replace('X', "inputs.x");
        all.push(case(format!("{name} within {name} in a rule, form {at}"), Want::Answer, move || {
            vec![Blow::Run { definition: native(json!({ "require": rule })), inputs: numbers() }]
        }));
    }
    all
}

/// A check on an agent's answers, an answer that it looks at, and the check taken away.
fn guarded(name: &str, more: Value) -> Case {
    case(format!("a check: {name}"), Want::Answer, move || {
        let mut guard = json!({ "name": "hostile", "agent": "Clerk" });
        if let (Some(guard), Value::Object(more)) = (guard.as_object_mut(), more.clone()) {
            guard.extend(more);
        }
        let chat = json!({ "model": "many-numbers", "messages": [{ "role": "system", "name": "Clerk", "content": "You are Clerk." }, { "role": "user", "content": "q" }] });
        vec![
            Blow::Ask(post(By::Admin, "/api/v1/guards", "", guard.to_string().as_bytes())),
            Blow::Ask(post(By::Attempt, "{gate}/v1/chat/completions", "", chat.to_string().as_bytes())),
            Blow::Ask(Ask { method: "DELETE", ..get(By::Admin, "/api/v1/guards/hostile") }),
        ]
    })
}

fn schemas() -> Vec<Case> {
    let mut all = Vec::new();
    for (at, (name, schema)) in texts::schemas().into_iter().enumerate() {
        let texts = format!(r#"{{"x":"{}!"}}"#, "a".repeat(50_000));
        let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } });
        let asked = json!({ "model": "m", "messages": [{ "role": "user", "content": format!("q{at}") }], "response_format": format });
        let tool = json!([{ "type": "function", "function": { "name": "t", "parameters": schema } }]);
        let tools = json!({ "model": "m", "messages": [{ "role": "user", "content": format!("t{at}") }], "tools": tool });
        for (where_, body) in [("the form of an answer", asked), ("a tool", tools)] {
            all.push(one(format!("a schema of {where_}: {name}"), Want::Answer, move || {
                post(By::Attempt, "{gate}/v1/chat/completions", "", body.to_string().as_bytes())
            }));
        }
        let workflow = json!({ "name": "NAME", "inputs": schema, "agents": [{ "id": "a", "framework": "native", "prompt": "hi" }] }).to_string();
        all.push(case(format!("a schema of inputs: {name}"), Want::Answer, move || {
            vec![Blow::Run { definition: workflow.clone(), inputs: texts.clone() }]
        }));
        all.push(guarded(name, json!({ "schema": schema })));
    }
    all
}

fn amplifiers() -> Vec<Case> {
    let million = || format!(r#"{{"x":"{}"}}"#, "A".repeat(1_000_000));
    let many = || "{{ inputs.x }}".repeat(20_000);
    let wide: fn(Text) -> String = |text| {
        json!({ "name": "NAME", "agents": [{ "id": "a", "framework": "native", "prompt": "hi" }], "output": vec![text(); 400] }).to_string()
    };
    let run = move |name: &str, definition: fn() -> String, inputs: Text| {
        case(name, Want::Answer, move || vec![Blow::Run { definition: definition(), inputs: inputs() }])
    };
    let mut all = vec![
        case("a prompt of many inputs", Want::Answer, move || {
            vec![Blow::Run { definition: native(json!({ "prompt": many() })), inputs: million() }]
        }),
        case("an input of many inputs", Want::Answer, move || {
            let agent = json!({ "id": "a", "framework": "crewai", "input": many(), "timeout": "1s", "retry": { "attempts": 1 } });
            vec![Blow::Run {
                definition: json!({ "name": "NAME", "agents": [agent] }).to_string(),
                inputs: million(),
            }]
        }),
        case("an output of many inputs", Want::Answer, move || {
            vec![Blow::Run { definition: wide(|| "{{ inputs.x }}".to_owned()), inputs: million() }]
        }),
        run("parallel prompts of nothing", lanes, || format!(r#"{{"x":"{}"}}"#, "A".repeat(5_000_000))),
        one("JSON of many small objects", Want::Answer, || {
            let body =
                format!(r#"{{"workflow":"ordinary","inputs":[{}1]}}"#, r#"{"a":{}},"#.repeat(1_700_000));
            post(By::Developer, "/api/v1/executions", "", body.as_bytes())
        }),
        one("JSON of many small arrays", Want::Answer, || {
            let body = format!(r#"{{"workflow":"ordinary","inputs":[{}1]}}"#, "[],".repeat(4_000_000));
            post(By::Developer, "/api/v1/executions", "", body.as_bytes())
        }),
        one("a file of many mistakes", Want::Answer, || {
            let wrong: String = (0..50_000).map(|number| format!("    k{number:07}: {{}}\n")).collect();
            let text =
                format!("name: x\nagents: [{{id: a}}]\ninputs:\n  type: object\n  properties:\n{wrong}");
            post(
                By::Viewer,
                "/api/v1/workflows/validate",
                "content-type: application/yaml\r\n",
                text.as_bytes(),
            )
        }),
        one("a file of many strange keys", Want::Answer, || {
            let wrong: String = (0..90_000).map(|number| format!("agent{number}: 1\n")).collect();
            post(
                By::Viewer,
                "/api/v1/workflows/validate",
                "content-type: application/yaml\r\n",
                wrong.as_bytes(),
            )
        }),
    ];
    all.extend(lengths());
    all
}

fn lanes() -> String {
    let agents: Vec<Value> = (0..100).map(|lane| json!({ "id": format!("a{lane}"), "framework": "native", "model": "good", "prompt": "hi" })).collect();
    json!({ "name": "NAME", "execution_order": "parallel", "agents": agents }).to_string()
}

/// A body with a long text in it.
type Body = fn(String) -> Value;

/// Long things where short ones are meant.
fn lengths() -> Vec<Case> {
    let long = || "n".repeat(1_000_000);
    let texts: [(&str, Body, By, &str); 6] = [
        ("the name of a program", |long| json!({ "name": long }), By::Developer, "/api/v1/programs"),
        (
            "the name of a signal",
            |long| json!({ "name": long, "body": 1 }),
            By::Developer,
            "/api/v1/executions/{execution}/signal",
        ),
        (
            "the name of a checkpoint",
            |long| json!({ "name": long }),
            By::Developer,
            "/api/v1/executions/{execution}/checkpoints",
        ),
        ("the name of a workflow", |long| json!({ "workflow": long }), By::Developer, "/api/v1/executions"),
        (
            "the name of a model",
            |long| json!({ "model": long, "messages": [] }),
            By::Attempt,
            "{gate}/v1/chat/completions",
        ),
        (
            "the name of a tool",
            |long| json!({ "caller": "c", "tool": long, "effect": "read" }),
            By::Attempt,
            "{gate}/tools",
        ),
    ];
    let lengths = texts.into_iter().map(move |(name, body, by, path)| {
        one(format!("a million letters as {name}"), Want::Answer, move || {
            post(by, path, "", body(long()).to_string().as_bytes())
        })
    });
    lengths.collect()
}

/// What needs no key.
fn strangers() -> Vec<Case> {
    let moment = Duration::from_secs(1);
    let hold = |name: &str, bytes: fn() -> Vec<u8>, connections| {
        case(name, Want::Anything, move || vec![Blow::Hold { bytes: bytes(), connections, hold: moment }])
    };
    let body = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 33000000\r\n\r\n{}", "z".repeat(1 << 20))
            .into_bytes()
    };
    let mut all = vec![
        hold("connections that say nothing", Vec::new, 1_100),
        hold("half heads", || b"GET / HTTP/1.1\r\nhost:".to_vec(), 500),
        hold("the beginning of TLS", || b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 200),
        hold("zeros", || vec![0; 4_096], 200),
        hold(
            "HTTP/2 and nothing after",
            || b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
            200,
        ),
        case("bodies to the gate, held back", Want::Anything, move || {
            vec![Blow::Hold { bytes: body("/x/ex_1/v1/chat/completions"), connections: 130, hold: moment }]
        }),
        case("bodies to the API, held back", Want::Anything, move || {
            vec![Blow::Hold { bytes: body("/api/v1/executions"), connections: 130, hold: moment }]
        }),
        case("bodies to the workers' service, held back", Want::Anything, move || {
            vec![Blow::Hold { bytes: body("/omium.v1.Workers/Work"), connections: 130, hold: moment }]
        }),
        case("made-up keys", Want::Refusal, || {
            let made_up = format!("authorization: Bearer omx_{}01{}\r\n", "a1".repeat(16), "b2".repeat(47));
            vec![Blow::Many(Ask { head: made_up, ..get(By::Nobody, "/x/ex_1/v1/models") }, 200)]
        }),
        one("a body that is to be waited for", Want::Refusal, || {
            post(By::Nobody, "/x/ex_1/v1/chat/completions", "expect: 100-continue\r\n", &[b'z'; 1 << 20])
        }),
        one("a head of 1 MB", Want::Refusal, || Ask {
            head: format!("x-long: {}\r\n", "h".repeat(1 << 20)),
            ..get(By::Nobody, "/health")
        }),
        one("a head of many lines", Want::Refusal, || Ask {
            head: "a: b\r\n".repeat(5_000),
            ..get(By::Nobody, "/health")
        }),
        one("a long address", Want::Refusal, || get(By::Nobody, &format!("/{}", "a".repeat(100_000)))),
        one("a strange host", Want::Answer, || Ask {
            head: "host: evil.example\r\norigin: http://evil.example\r\n".to_owned(),
            ..get(By::Nobody, "/metrics")
        }),
    ];
    for path in
        ["/health", "/ready", "/metrics", "/openapi.json", "/nothing", "/ready?for=x", "/x/ex_1/v1/models"]
    {
        all.push(case(format!("500 strangers at {path}"), Want::Anything, move || {
            vec![Blow::Many(get(By::Nobody, path), 500)]
        }));
        all.push(one(format!("32 MB sent to {path}"), Want::Answer, move || {
            post(By::Nobody, path, "", &vec![b'z'; 32 << 20])
        }));
    }
    all
}

/// Each misbehaviour, asked for through the gate, as a stream, and by a native agent.
fn vendors() -> Vec<Case> {
    let mut all = Vec::new();
    for manner in MANNERS {
        for stream in [false, true] {
            let chat = json!({ "model": manner, "stream": stream, "messages": [{ "role": "user", "content": "q" }] });
            let name = format!("a vendor's {manner}{}", if stream { ", to a stream" } else { "" });
            all.push(one(name, Want::Anything, move || {
                post(By::Attempt, "{gate}/v1/chat/completions", "", chat.to_string().as_bytes())
            }));
        }
        all.push(case(format!("a vendor's {manner}, to a native agent"), Want::Answer, move || {
            vec![Blow::Run {
                definition: native(json!({ "model": manner, "timeout": "5s" })),
                inputs: "{}".to_owned(),
            }]
        }));
    }
    all
}

/// Ways out of what the gate passes on.
fn paths() -> Vec<Case> {
    const OUT: &[&str] = &[
        "models/../../key/list",
        "models/%2e%2e/%2e%2e/key",
        "models%2F..%2F..%2Fkey",
        "models/..%5C..%5Ckey",
        "models%3Fa=b",
        "../key/list",
        "models/%00",
        "models/a%0d%0ab",
        "files",
        "models//../../key",
    ];
    OUT.iter()
        .map(|out| {
            one(format!("a way out: {out}"), Want::Refusal, move || {
                get(By::Attempt, &format!("{{gate}}/v1/{out}"))
            })
        })
        .collect()
}

/// What is small and was once answered wrongly.
fn known() -> Vec<Case> {
    let mut all = Vec::new();
    for at in ["0", "1", "18446744073709551615", "-1", "1e3", "\"step:x\"", "null"] {
        for action in ["fork", "rollback"] {
            all.push(one(format!("{action} at {at}"), Want::Answer, move || {
                post(
                    By::Developer,
                    &format!("/api/v1/executions/{{execution}}/{action}"),
                    "",
                    format!(r#"{{"at":{at}}}"#).as_bytes(),
                )
            }));
        }
    }
    all.push(case("254 lanes, and a thousand", Want::Success, || {
        let lanes = |many: usize| {
            let agents: Vec<Value> = (0..many).map(|lane| json!({ "id": format!("a{lane}"), "framework": "human", "signal": format!("s{lane}") })).collect();
            json!({ "name": "NAME", "execution_order": "parallel", "agents": agents }).to_string()
        };
        [254, 1_000].map(|many| Blow::Run { definition: lanes(many), inputs: "{}".to_owned() }).into()
    }));
    for (name, ensure) in
        [("1e15", "1e15,"), ("empty lists", "[],"), ("long numbers", "123456789012345678901234567890,")]
    {
        all.push(case(format!("a tool's result of {name}"), Want::Answer, move || {
            let begin = br#"{"caller":"c","tool":"t","effect":"read"}"#;
            let result = format!(r#"{{"result":[{}1]}}"#, ensure.repeat(20_000_000 / ensure.len()));
            vec![
                Blow::Ask(post(By::Attempt, "{gate}/tools", "", begin)),
                Blow::Ask(post(By::Attempt, "{gate}/tools/1", "", result.as_bytes())),
            ]
        }));
    }
    for query in [
        "limit=0",
        "limit=99999999999999999999",
        "cursor=%00",
        "status=%ff",
        "after=-1",
        "wait_ms=-1",
        "at=18446744073709551616",
    ] {
        for path in
            ["/api/v1/executions", "/api/v1/executions/{execution}", "/api/v1/executions/{execution}/events"]
        {
            all.push(one(format!("{path}?{query}"), Want::Answer, move || {
                get(By::Viewer, &format!("{path}?{query}"))
            }));
        }
    }
    all
}

/// Tools that leave the machine or the sandbox.
fn tools() -> Vec<Case> {
    let with = |name: &str, tool: fn() -> Value| {
        case(format!("a tool that is {name}"), Want::Answer, move || {
            let agent = json!({ "id": "a", "framework": "native", "prompt": "hi", "tools": ["x"], "timeout": "5s", "retry": { "attempts": 1 } });
            let definition =
                json!({ "name": "NAME", "agents": [agent], "tools": { "x": tool() } }).to_string();
            vec![Blow::Run { definition, inputs: "{}".to_owned() }]
        })
    };
    vec![
        with("a command", || json!({ "mcp": { "command": ["sh", "-c", "exit 3"] } })),
        with("a command that says much", || json!({ "mcp": { "command": ["yes"] } })),
        with("a command that says nothing", || json!({ "mcp": { "command": ["sleep", "30"] } })),
        with(
            "the node itself",
            || json!({ "http": { "method": "GET", "url": "http://127.0.0.1:1/api/v1/keys" } }),
        ),
        with("no address", || json!({ "http": { "method": "GET", "url": "file:///etc/passwd" } })),
        with(
            "a secret of the server's",
            || json!({ "http": { "method": "GET", "url": "http://127.0.0.1:1/", "headers": { "x": { "secret": "OPENAI_API_KEY" } } } }),
        ),
    ]
}
