//! The tools of one agent.

use std::collections::BTreeMap;
use std::time::Duration;

use omium_limits::{Fuel, Schema, told};
use omium_schemas::catalogue::{EffectClass, ToolErrorClass};
use omium_workflow::{closest, listed};
use serde_json::{Value, json};

use super::builtin::Builtin;
use super::http::Http;
use super::mcp::Server;
use super::shape::{self, Shape};
use crate::native::{Ask, Grants, NotGranted, ToolFailure, Wrong};

/// How many mistakes are told at once.
const MOST_WRONG: usize = 20;
/// How long a tool may take that says nothing about it.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The tools of one agent.
#[derive(Debug, Default)]
pub(crate) struct Toolbox {
    tools: Vec<Tool>,
    servers: Vec<Server>,
}

/// A tool as the model sees it, and how it is called.
#[derive(Debug)]
struct Tool {
    name: String,
    description: String,
    parameters: Value,
    schema: Parameters,
    effect: EffectClass,
    timeout: Duration,
    kind: Kind,
}

/// What a tool's arguments have to be.
#[derive(Debug)]
enum Parameters {
    /// The tool itself looks at them.
    Any,
    Fit(Schema),
    /// What a server says of them cannot be used; calls are refused with the reason.
    Unusable(String),
}

#[derive(Debug)]
enum Kind {
    Http(Box<Http>),
    Builtin(Builtin),
    Mcp { server: usize, tool: String },
}

/// A call that is ready to be made.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) tool: String,
    pub(crate) arguments: Value,
    pub(crate) effect: EffectClass,
    target: Target,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Tool(usize),
    Listing(usize),
}

/// What a call needs beside its arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) effect_key: &'a str,
    pub(crate) within: Duration,
    pub(crate) grants: &'a Grants,
}

/// What came of a call.
#[derive(Debug, PartialEq)]
pub(crate) enum Called {
    Answered(Value),
    /// It failed, and is known not to have done what it was asked for, or to be harmless.
    Failed(ToolFailure),
    /// It changes something, and nobody knows whether it did.
    Unknown(String),
}

impl Called {
    pub(crate) fn failed(class: ToolErrorClass, reason: impl Into<String>) -> Called {
        Called::Failed(ToolFailure { class, reason: reason.into() })
    }

    /// A call whose answer did not come.
    pub(crate) fn lost(effect: EffectClass, class: ToolErrorClass, reason: String) -> Called {
        match effect {
            EffectClass::Read | EffectClass::Idempotent => Called::failed(class, reason),
            EffectClass::Write | EffectClass::Irreversible => Called::Unknown(reason),
        }
    }
}

/// A server that says nothing of its arguments takes any.
fn parameters_of(schema: &Value) -> Parameters {
    if schema.is_null() {
        return Parameters::Any;
    }
    Schema::read(schema).map_or_else(|why| Parameters::Unusable(why.to_string()), Parameters::Fit)
}

impl Toolbox {
    /// The tools that an agent names, out of those that the workflow has; what is built in needs no definition.
    pub(crate) fn read(names: &[String], all: &BTreeMap<String, Value>) -> Result<Toolbox, Vec<Wrong>> {
        let (mut toolbox, mut wrong) = (Toolbox::default(), Vec::new());
        for name in names {
            match (all.get(name), Builtin::named(name)) {
                (Some(definition), _) => {
                    if let Err(why) = toolbox.add(name, definition) {
                        wrong.push(Wrong::new(
                            name,
                            format!("tool `{}`: {why}", told(name)),
                            "correct it, or remove it",
                        ));
                    }
                }
                (None, Some(builtin)) => toolbox.add_builtin(name, builtin, None),
                (None, None) => {
                    let known: Vec<&str> = all.keys().map(String::as_str).chain(Builtin::NAMES).collect();
                    let hint = match closest(name, &known) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("there are: {}", listed(&known)),
                    };
                    if wrong.len() < MOST_WRONG {
                        wrong.push(Wrong::new("tools", format!("there is no tool `{}`", told(name)), hint));
                    }
                }
            }
        }
        if wrong.is_empty() { Ok(toolbox) } else { Err(wrong) }
    }

    fn add(&mut self, name: &str, definition: &Value) -> Result<(), String> {
        if name.is_empty()
            || name.len() > 64
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        {
            return Err(
                "a tool's name has 1 to 64 letters, digits, `_` and `-`; models accept no others".to_owned()
            );
        }
        let shape = Shape::read(definition)?;
        if let Some(builtin) = shape.builtin {
            self.add_builtin(name, builtin, shape.description);
            return Ok(());
        }
        if let Some(mcp) = &shape.mcp {
            self.servers.push(Server::read(name, mcp, &shape)?);
            return Ok(());
        }
        let http = Http::read(shape.http.as_ref().ok_or(shape::NO_KIND)?, &shape)?;
        let parameters = shape.parameters.clone().unwrap_or_else(|| http.guessed_parameters());
        let schema =
            Schema::read(&parameters).map_err(|why| format!("`parameters` cannot be used: {why}"))?;
        self.tools.push(Tool {
            name: name.to_owned(),
            description: shape.description.unwrap_or_default(),
            parameters,
            schema: Parameters::Fit(schema),
            effect: shape.effect.unwrap_or(http.effect()),
            timeout: shape.timeout.unwrap_or(DEFAULT_TIMEOUT),
            kind: Kind::Http(Box::new(http)),
        });
        Ok(())
    }

    fn add_builtin(&mut self, name: &str, builtin: Builtin, description: Option<String>) {
        self.tools.push(Tool {
            name: name.to_owned(),
            description: description.unwrap_or_else(|| builtin.description().to_owned()),
            parameters: builtin.parameters(),
            schema: Parameters::Any,
            effect: EffectClass::Read,
            timeout: DEFAULT_TIMEOUT,
            kind: Kind::Builtin(builtin),
        });
    }

    /// What its tools ask for and do not get.
    pub(crate) fn not_granted(&self, grants: &Grants) -> Vec<NotGranted> {
        let http = self.tools.iter().filter_map(|tool| match &tool.kind {
            Kind::Http(http) => Some((tool.name.as_str(), http.asks())),
            Kind::Builtin(_) | Kind::Mcp { .. } => None,
        });
        let servers = self.servers.iter().map(|server| (server.name.as_str(), server.asks()));
        let refusals = |(name, asks): (&str, Vec<Ask<'_>>)| {
            asks.iter().filter_map(|ask| grants.refusal(name, ask)).collect::<Vec<_>>()
        };
        http.chain(servers).flat_map(refusals).collect()
    }

    /// What a model is told.
    pub(crate) fn described(&self) -> Vec<Value> {
        let describe = |tool: &Tool| {
            json!({"type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": tool.parameters,
            }})
        };
        self.tools.iter().map(describe).collect()
    }

    /// Looks whether a call can be made; if not, the model is told why.
    pub(crate) fn prepare(&self, name: &str, arguments: Value) -> Result<Invocation, String> {
        let Some(at) = self.tools.iter().position(|tool| tool.name == name) else {
            let names: Vec<&str> = self.tools.iter().map(|tool| tool.name.as_str()).collect();
            return Err(format!("there is no tool `{}`; there are: {}", told(name), listed(&names)));
        };
        let tool = &self.tools[at];
        if !arguments.is_object() {
            return Err(format!("the arguments of `{name}` have to be a JSON object"));
        }
        match &tool.schema {
            Parameters::Any => {}
            Parameters::Fit(schema) => schema
                .check(&arguments, &mut Fuel::default())
                .map_err(|why| format!("these arguments do not fit `{name}`: {why}"))?,
            Parameters::Unusable(why) => {
                return Err(format!(
                    "`{name}` cannot be called: its schema of arguments cannot be used: {why}"
                ));
            }
        }
        Ok(Invocation { tool: name.to_owned(), arguments, effect: tool.effect, target: Target::Tool(at) })
    }

    /// Makes a call.
    pub(crate) async fn call(&mut self, invocation: &Invocation, context: &Context<'_>) -> Called {
        let Target::Tool(at) = invocation.target else { return self.list(invocation, context).await };
        let tool = &self.tools[at];
        let within = tool.timeout.min(context.within);
        let called = async {
            match &tool.kind {
                Kind::Http(http) => http.call(invocation, context, within).await,
                Kind::Builtin(builtin) => builtin.call(&invocation.arguments),
                Kind::Mcp { server, tool } => self.servers[*server].call(tool, invocation, context).await,
            }
        };
        match tokio::time::timeout(within, called).await {
            Ok(called) => called,
            Err(_) => {
                let reason = format!("`{}` did not answer within {within:?}", invocation.tool);
                Called::lost(invocation.effect, ToolErrorClass::Timeout, reason)
            }
        }
    }

    /// The calls by which servers are asked for their tools.
    pub(crate) fn listings(&self) -> Vec<Invocation> {
        let listing = |(at, server): (usize, &Server)| Invocation {
            tool: server.name.clone(),
            arguments: json!({"method": "tools/list"}),
            effect: EffectClass::Read,
            target: Target::Listing(at),
        };
        self.servers.iter().enumerate().map(listing).collect()
    }

    async fn list(&self, invocation: &Invocation, context: &Context<'_>) -> Called {
        let Target::Listing(at) = invocation.target else {
            return Called::failed(ToolErrorClass::Internal, "only servers have lists of tools");
        };
        let within = self.servers[at].timeout.unwrap_or(DEFAULT_TIMEOUT).min(context.within);
        match tokio::time::timeout(within, self.servers[at].list(context)).await {
            Ok(called) => called,
            Err(_) => Called::failed(
                ToolErrorClass::Timeout,
                format!("`{}` did not list its tools within {within:?}", invocation.tool),
            ),
        }
    }

    /// Takes over what a server listed, now or in an earlier attempt.
    pub(crate) fn listed(&mut self, invocation: &Invocation, listed: &Value) -> Result<(), String> {
        let Target::Listing(at) = invocation.target else { return Ok(()) };
        let server = &self.servers[at];
        for offered in server.offered(listed)? {
            self.tools.push(Tool {
                name: offered.name,
                description: offered.description,
                schema: parameters_of(&offered.parameters),
                parameters: offered.parameters,
                effect: offered.effect,
                timeout: server.timeout.unwrap_or(DEFAULT_TIMEOUT),
                kind: Kind::Mcp { server: at, tool: offered.tool },
            });
        }
        Ok(())
    }

    /// Ends what was opened.
    pub(crate) async fn close(&mut self) {
        for server in &mut self.servers {
            server.close().await;
        }
    }
}
