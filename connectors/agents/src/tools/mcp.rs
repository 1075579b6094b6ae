//! Tools of MCP servers, over stdio and over streamable HTTP.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use omium_limits::{Limits, Room, clipped_bytes, json};
use omium_schemas::catalogue::{EffectClass, ToolErrorClass};
use omium_telemetry::Work;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use rmcp::ServiceExt;
use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock, RequestParamsMeta as _};
use rmcp::service::{RoleClient, RunningService, ServiceError};
use rmcp::transport::TokioChildProcess;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig,
};
use serde_json::{Map, Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::address::Private;
use super::secret::{Used, Written};
use super::shape::{Shape, known, mapping, text};
use super::toolbox::{Called, Context, Invocation};
use crate::native::Ask;

/// How much of what a server says about an error is told, and how long a header or a variable may get.
const MOST_REASON: usize = 4_000;
const MOST_SETTING: usize = 64 << 10;
/// What a result may cost once it is built.
const LIMITS: Limits = Limits { bytes: 16 << 20, nodes: 1_000_000, memory: 128 << 20, ..Limits::VALUES };

/// What a program that is started inherits; our own keys are not among it.
const INHERITED: [&str; 7] = ["PATH", "HOME", "LANG", "TMPDIR", "TMP", "USER", "XDG_CACHE_HOME"];

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) timeout: Option<Duration>,
    reach: Reach,
    effect: Option<EffectClass>,
    effects: BTreeMap<String, EffectClass>,
    only: Option<Vec<String>>,
    max_bytes: usize,
    connection: OnceCell<Connection>,
}

/// Opened when it is first needed: a step that is served from the record alone starts no program.
struct Connection {
    service: RunningService<RoleClient, ()>,
    used: Used,
    /// After the service, which says good-bye first.
    _group: Option<Group>,
}

/// The processes of a program that was started. All that are left end with it: what it has started itself too.
struct Group(rustix::process::Pid);

impl Group {
    fn of(leader: Option<u32>) -> Option<Group> {
        leader.and_then(|id| rustix::process::Pid::from_raw(id.try_into().ok()?)).map(Group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // There is none any more where all have ended.
        let _ = rustix::process::kill_process_group(self.0, rustix::process::Signal::KILL);
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

#[derive(Debug)]
enum Reach {
    Program { command: Vec<String>, env: Vec<(String, Written)> },
    Url { url: Url, headers: Vec<(HeaderName, Written)>, private: Private },
}

/// A tool that a server offers.
pub(super) struct Offered {
    pub(super) name: String,
    pub(super) tool: String,
    pub(super) description: String,
    pub(super) parameters: Value,
    pub(super) effect: EffectClass,
}

impl Server {
    pub(super) fn read(name: &str, entries: &Map<String, Value>, shape: &Shape) -> Result<Server, String> {
        known(entries, &["command", "env", "url", "headers"], "`mcp`")?;
        let reach = match (entries.get("command"), text(entries, "url")?) {
            (Some(command), None) => Reach::Program { command: words(command)?, env: env(entries)? },
            (None, Some(url)) => Reach::Url {
                url: url.parse().map_err(|why| format!("`url` cannot be read: {why}"))?,
                headers: headers(entries)?,
                private: shape.private.clone(),
            },
            _ => return Err("`mcp` has either a `command: [program, argument]` or a `url`".to_owned()),
        };
        Ok(Server {
            name: name.to_owned(),
            timeout: shape.timeout,
            reach,
            effect: shape.effect,
            effects: shape.effects.clone(),
            only: shape.only.clone(),
            max_bytes: shape.max_bytes,
            connection: OnceCell::new(),
        })
    }

    /// What it needs of the machine.
    pub(super) fn asks(&self) -> Vec<Ask<'_>> {
        match &self.reach {
            Reach::Program { command, env } => {
                let secrets = env.iter().flat_map(|(_, value)| value.secrets()).map(Ask::Secret);
                let env = env.iter().map(|(name, _)| name.as_str()).collect();
                std::iter::once(Ask::Program { command, env }).chain(secrets).collect()
            }
            Reach::Url { url, headers, private } => {
                let secrets = headers.iter().flat_map(|(_, value)| value.secrets()).map(Ask::Secret);
                let private = private.asks(url).then(|| Ask::Private(url.clone()));
                secrets.chain(private).collect()
            }
        }
    }

    /// What it offers, as the record keeps it.
    pub(super) async fn list(&self, context: &Context<'_>) -> Called {
        let connection = match self.connection(context).await {
            Ok(connection) => connection,
            Err(reason) => return Called::failed(ToolErrorClass::Connection, reason),
        };
        match connection.service.list_all_tools().await {
            Ok(tools) => match serde_json::to_value(&tools) {
                Ok(tools) => Called::Answered(json!({"tools": tools})),
                Err(why) => Called::failed(ToolErrorClass::MalformedResult, why.to_string()),
            },
            Err(error) => Called::failed(
                ToolErrorClass::Other,
                connection.used.taken_out_of(&error.to_string(), MOST_REASON),
            ),
        }
    }

    /// The tools in a listing, named `server__tool`.
    pub(super) fn offered(&self, listed: &Value) -> Result<Vec<Offered>, String> {
        let tools = listed["tools"].as_array().ok_or_else(|| {
            let why = listed["error"].as_str().unwrap_or("its answer has no list");
            format!("the MCP server `{}` does not say what it offers: {why}", self.name)
        })?;
        let offered = tools.iter().filter_map(|tool| self.offer(tool)).collect::<Vec<_>>();
        let missing =
            self.only.iter().flatten().find(|name| !offered.iter().any(|known| known.tool == **name));
        match missing {
            Some(name) => Err(format!("the MCP server `{}` has no tool `{name}`", self.name)),
            None => Ok(offered),
        }
    }

    fn offer(&self, tool: &Value) -> Option<Offered> {
        let name = tool["name"].as_str()?;
        if self.only.as_ref().is_some_and(|only| !only.iter().any(|wanted| wanted == name)) {
            return None;
        }
        let safe = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' });
        let shown: String = format!("{}__{}", self.name, safe.collect::<String>()).chars().take(64).collect();
        Some(Offered {
            name: shown,
            tool: name.to_owned(),
            description: tool["description"].as_str().unwrap_or_default().to_owned(),
            parameters: tool["inputSchema"].clone(),
            effect: self.effect_of(name, &tool["annotations"]),
        })
    }

    // What the definition says counts; what the server says of itself only where the definition is silent.
    fn effect_of(&self, tool: &str, annotations: &Value) -> EffectClass {
        if let Some(effect) = self.effects.get(tool).copied().or(self.effect) {
            return effect;
        }
        match (annotations["readOnlyHint"] == true, annotations["idempotentHint"] == true) {
            (true, _) => EffectClass::Read,
            (false, true) => EffectClass::Idempotent,
            (false, false) => EffectClass::Write,
        }
    }

    pub(super) async fn call(&self, tool: &str, invocation: &Invocation, context: &Context<'_>) -> Called {
        let connection = match self.connection(context).await {
            Ok(connection) => connection,
            Err(reason) => return Called::failed(ToolErrorClass::Connection, reason),
        };
        let arguments = invocation.arguments.as_object().cloned().unwrap_or_default();
        let mut request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let work = Work::call("omium.tool");
        if let Some((parent, state)) = work.told() {
            request.set_traceparent(&parent);
            state.into_iter().for_each(|state| request.set_tracestate(&state));
        }
        let said = |text: String| connection.used.taken_out_of(&text, MOST_REASON);
        match connection.service.call_tool(request).await {
            Ok(result) if result.is_error == Some(true) => {
                Called::failed(ToolErrorClass::Other, said(texts(&result)))
            }
            Ok(result) => Called::Answered(self.answer(&result, &connection.used)),
            Err(ServiceError::McpError(error)) => {
                Called::failed(ToolErrorClass::InvalidArguments, said(error.to_string()))
            }
            Err(error) => {
                let reason = said(format!("the MCP server `{}` did not answer: {error}", self.name));
                Called::lost(invocation.effect, ToolErrorClass::Connection, reason)
            }
        }
    }

    fn answer(&self, result: &CallToolResult, used: &Used) -> Value {
        let text = match &result.structured_content {
            Some(value) => value.to_string(),
            None => texts(result),
        };
        // One more than is shown, so that a cut is seen.
        let text = used.taken_out_of(&text, self.max_bytes + 1);
        if text.len() > self.max_bytes {
            let begin = clipped_bytes(&text, self.max_bytes);
            return json!({"cut_after_bytes": begin.len(), "text": begin});
        }
        json::parse(text.as_bytes(), &LIMITS).unwrap_or_else(|_| text.into())
    }

    async fn connection(&self, context: &Context<'_>) -> Result<&Connection, String> {
        self.connection.get_or_try_init(|| self.connect(context)).await
    }

    async fn connect(&self, context: &Context<'_>) -> Result<Connection, String> {
        let mut used = Used::default();
        let fill = |written: &Written, used: &mut Used| match written.fill(
            &Value::Null,
            &context.grants.secrets,
            used,
            &mut Room::of(MOST_SETTING),
        )? {
            Value::String(text) => Ok::<_, String>(text),
            other => Ok(other.to_string()),
        };
        let mut group = None;
        let service = match &self.reach {
            Reach::Program { command, env } => {
                let names: Vec<&str> = env.iter().map(|(name, _)| name.as_str()).collect();
                if !context.grants.starts(command, &names) {
                    return Err(format!(
                        "`{}` starts a program, which is not granted; use a `url`",
                        self.name
                    ));
                }
                let mut program = Command::new(&command[0]);
                program.args(&command[1..]).env_clear().kill_on_drop(true).process_group(0);
                program.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
                for (name, written) in env {
                    program.env(name, fill(written, &mut used)?);
                }
                let (child, _) = TokioChildProcess::builder(program)
                    .stderr(Stdio::null())
                    .spawn()
                    .map_err(|why| format!("`{}` cannot be started: {why}", command[0]))?;
                group = Group::of(child.id());
                ().serve(child).await
            }
            Reach::Url { url, headers, private } => {
                let client = private.client(url, &context.grants.private).map_err(|why| why.to_string())?;
                let mut filled = std::collections::HashMap::new();
                for (name, written) in headers {
                    let value = HeaderValue::try_from(fill(written, &mut used)?);
                    filled.insert(
                        name.clone(),
                        value.map_err(|_| format!("header `{name}` holds a line break"))?,
                    );
                }
                let config =
                    StreamableHttpClientTransportConfig::with_uri(url.as_str()).custom_headers(filled);
                ().serve(StreamableHttpClientTransport::with_client(client, config)).await
            }
        };
        let service = service.map_err(|why| {
            used.taken_out_of(
                &format!("the MCP server `{}` does not begin to talk: {why}", self.name),
                MOST_REASON,
            )
        })?;
        Ok(Connection { service, used, _group: group })
    }

    /// Says good-bye, so that a program that was started ends.
    pub(super) async fn close(&mut self) {
        let Some(Connection { service, _group, .. }) = self.connection.take() else { return };
        if let Err(error) = service.cancel().await {
            tracing::debug!(server = self.name, %error, "an MCP server did not end cleanly");
        }
    }
}

fn texts(result: &CallToolResult) -> String {
    let text = |block: &ContentBlock| match block.as_text() {
        Some(text) => text.text.clone(),
        None => serde_json::to_string(block).unwrap_or_default(),
    };
    result.content.iter().map(text).collect::<Vec<_>>().join("\n")
}

fn words(command: &Value) -> Result<Vec<String>, String> {
    let words: Vec<String> = serde_json::from_value(command.clone()).unwrap_or_default();
    if words.first().is_none_or(String::is_empty) {
        return Err("`command` is a list of the program and its arguments: [npx, -y, server]".to_owned());
    }
    Ok(words)
}

fn env(entries: &Map<String, Value>) -> Result<Vec<(String, Written)>, String> {
    let written = mapping(entries, "env")?.unwrap_or_default();
    written.into_iter().map(|(name, value)| Ok((name, Written::read(&value)?))).collect()
}

fn headers(entries: &Map<String, Value>) -> Result<Vec<(HeaderName, Written)>, String> {
    let read = |(name, value): (String, Value)| {
        let parsed =
            HeaderName::try_from(name.as_str()).map_err(|_| format!("`{name}` is no header's name"))?;
        Ok((parsed, Written::read(&value)?))
    };
    mapping(entries, "headers")?.unwrap_or_default().into_iter().map(read).collect()
}
