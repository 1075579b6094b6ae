//! Texts from a grammar of all that a caller may write: most are nearly right, some are cut, none was thought of.

/// Where the next choice comes from: the same seed writes the same texts.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % most as u64) as usize
    }

    fn of<'a>(&mut self, these: &[&'a str]) -> &'a str {
        these[self.below(these.len())]
    }

    /// Some of these, each made anew.
    fn list(&mut self, most: usize, by: &str, mut one: impl FnMut(&mut Dice) -> String) -> String {
        (0..self.below(most + 1)).map(|_| one(self)).collect::<Vec<_>>().join(by)
    }

    /// Now and then a text ends where nobody expects it, or stands many times.
    pub(crate) fn spoiled(&mut self, text: String) -> String {
        match self.below(12) {
            0 => text.chars().take(self.below(text.chars().count() + 1)).collect(),
            1 => text.repeat(1 + 2_000 / (text.len() + 1)),
            _ => text,
        }
    }

    pub(crate) fn json(&mut self, depth: usize) -> String {
        match if depth == 0 { self.below(4) } else { self.below(8) } {
            0 => self.number().to_owned(),
            1 | 2 => self.word(),
            3 => self.of(&["true", "false", "null", "[]", "{}"]).to_owned(),
            4 => {
                let (nested, by) = (self.json(depth - 1), 1 << self.below(8));
                format!("{}{nested}{}", "[".repeat(by), "]".repeat(by))
            }
            5 => format!("[{}]", self.list(6, ", ", |dice| dice.json(depth - 1))),
            6 => {
                let pair = |dice: &mut Dice| format!("{}: {}", dice.word(), dice.json(depth - 1));
                format!("{{{}}}", self.list(6, ",", pair))
            }
            _ => {
                let number = self.number();
                format!("[{}]", vec![number; 1 << self.below(12)].join(","))
            }
        }
    }

    fn number(&mut self) -> &'static str {
        self.of(&[
            "0",
            "-0.0",
            "1",
            "17.50",
            "2101.0",
            "1e2",
            "-1e-400",
            "1e400",
            "9007199254740993",
            "18446744073709551616",
            "123456789012345678901234567890123456789012345678901234567890",
            "0.1000000000000000055511151231257827",
        ])
    }

    fn word(&mut self) -> String {
        let long = "x".repeat(1 << self.below(14));
        let words = [
            r#""a""#,
            r#""list""#,
            r#""""#,
            r#""\u0000""#,
            r#""\ud83d""#,
            r#""\ud83d\ude00""#,
            r#""äöü 漢字""#,
            r#""$serde_json::private::Number""#,
            r#""omium:ref""#,
            r#""{{ inputs.a }}""#,
            r#""1.234,56 EUR""#,
            r#""__proto__""#,
        ];
        if self.below(12) == 0 { format!("\"{long}\"") } else { self.of(&words).to_owned() }
    }

    pub(crate) fn rule(&mut self, depth: usize) -> String {
        if depth == 0 {
            let leaves = [
                "output",
                "inputs.list",
                "inputs.a",
                "outputs",
                "1",
                "-9223372036854775808",
                "0.0",
                "1u",
                "'x'",
                "b'x'",
                "[1, 2, 3]",
                "{'a': 1}",
                "null",
                "true",
                "size(output)",
                "'(a+)+$'",
                "inputs['a']",
            ];
            return self.of(&leaves).to_owned();
        }
        let (left, right) = (self.rule(depth - 1), self.rule(depth - 1));
        match self.below(9) {
            0 => format!("{left} {} {right}", self.of(&["+", "-", "*", "/", "%"])),
            1 => format!("({left}) {} ({right})", self.of(&["==", "!=", "<", ">=", "in", "&&", "||"])),
            2 => {
                format!("({left}).{}(i, {right})", self.of(&["all", "exists", "exists_one", "filter", "map"]))
            }
            3 => format!(
                "({left}).{}({right})",
                self.of(&["matches", "contains", "startsWith", "size", "nonsense"])
            ),
            4 => format!(
                "{}({left})",
                self.of(&["size", "string", "int", "double", "has", "duration", "timestamp"])
            ),
            5 => format!("({left}) ? ({right}) : ({left})"),
            6 => format!("[{left}, {right}, {left}]"),
            7 => format!("{}({left})", self.of(&["!", "-", "!!!!", "----"])),
            _ => format!("({left})[{right}].a"),
        }
    }

    pub(crate) fn template(&mut self, depth: usize) -> String {
        if depth == 0 {
            let leaves = [
                "text ",
                "{{ inputs }}",
                "{{ inputs.a }}",
                "{{ inputs.list }}",
                "{{ outputs.one }}",
                "{{ loop.index }}",
                "{{ inputs.a.b.c }}",
                "{{",
                "%}",
                "{# note #}",
                "{{ 'x' * 1000000 }}",
                "{{ range(1000000000) }}",
                "{{ inputs.a | upper }}",
                "{{ inputs.list | tojson }}",
                "{{ 10 ** 100 }}",
                "{{ [1] * 1000000000 }}",
            ];
            return self.of(&leaves).to_owned();
        }
        let (left, right) = (self.template(depth - 1), self.template(depth - 1));
        match self.below(6) {
            0 => format!(
                "{{% for i in {} %}}{left}{{% endfor %}}",
                self.of(&["inputs.list", "inputs", "range(99999)", "i"])
            ),
            1 => format!("{{% if {} %}}{left}{{% else %}}{right}{{% endif %}}", self.rule(1)),
            2 => format!("{{% macro m() %}}{left}{{{{ m() }}}}{{% endmacro %}}{{{{ m() }}}}"),
            3 => format!("{{% set a = {} %}}{right}", self.rule(1)),
            4 => format!("{{{{ {} }}}}{left}", self.rule(depth)),
            _ => format!("{left}{right}"),
        }
    }

    pub(crate) fn schema(&mut self, depth: usize) -> String {
        if depth == 0 {
            let leaves = [
                "{}",
                "true",
                "false",
                r#"{"type": "object"}"#,
                r#"{"type": "nonsense"}"#,
                r##"{"$ref": "#"}"##,
                r##"{"$ref": "#/$defs/a"}"##,
                r#"{"$ref": "http://127.0.0.1:1/"}"#,
                r#"{"pattern": "^(a|aa)+$"}"#,
                r#"{"pattern": "((a{1,99}){1,99}){1,99}"}"#,
                r#"{"pattern": "(?<=a)b\\1"}"#,
                r#"{"multipleOf": 0}"#,
                r#"{"minItems": 18446744073709551616}"#,
                r#"{"uniqueItems": true}"#,
                r#"{"format": "date"}"#,
            ];
            return self.of(&leaves).to_owned();
        }
        let (left, right) = (self.schema(depth - 1), self.schema(depth - 1));
        match self.below(6) {
            0 => format!(
                r#"{{"{}": [{left}, {right}, {left}]}}"#,
                self.of(&["anyOf", "allOf", "oneOf", "prefixItems"])
            ),
            1 => format!(r#"{{"properties": {{"a": {left}, "list": {right}}}}}"#),
            2 => {
                format!(r#"{{"{}": {left}}}"#, self.of(&["items", "not", "contains", "propertyNames", "if"]))
            }
            3 => format!(
                r##"{{"$defs": {{"a": {left}, "b": {right}}}, "$ref": "#/$defs/{}"}}"##,
                self.of(&["a", "b", "c"])
            ),
            4 => format!(r#"{{"enum": {}}}"#, self.json(depth)),
            _ => format!(
                r#"{{"patternProperties": {{"{}": {left}}}}}"#,
                self.of(&["^a", "(", ".*", "(x+x+)+y"])
            ),
        }
    }

    /// Whatever YAML can be, right or wrong.
    pub(crate) fn yaml(&mut self, depth: usize) -> String {
        match if depth == 0 { self.below(4) } else { self.below(9) } {
            0 => self.json(1),
            1 => self
                .of(&["&a [x]", "*a", "!!binary x", "0x1F", ".inf", "~", "!!omium x", "2026-11-30", "<<: *a"])
                .to_owned(),
            2 => format!("|\n  {}", self.template(1)),
            3 => self
                .of(&["yes", "'un", "\"\\x\"", "- - - - -", "? a", "---\n---", "%TAG ! x", "\t", "a: b: c"])
                .to_owned(),
            4 => format!("{{a: {}, a: {}}}", self.yaml(depth - 1), self.yaml(depth - 1)),
            5 => format!("[{}]", self.list(5, ", ", |dice| dice.yaml(depth - 1))),
            6 => format!("\n  name: {}\n  agents: {}", self.yaml(depth - 1), self.yaml(depth - 1)),
            7 => (0..self.below(12))
                .fold("&n0 [1]".to_owned(), |text, n| format!("{text}\n- &n{} [*n{n}, *n{n}]", n + 1)),
            _ => "[".repeat(1 << self.below(12)),
        }
    }

    /// A workflow in which some of this stands where it belongs.
    pub(crate) fn workflow(&mut self) -> String {
        let quoted = |text: String| serde_json::Value::from(text).to_string();
        let (depth, more) = (self.below(4), self.below(3));
        let prompt = if self.below(2) == 0 { "a question".to_owned() } else { self.template(depth) };
        let prompt = quoted(self.spoiled(prompt));
        let part = match self.below(7) {
            0 => format!("ensure: {}", quoted(self.rule(depth))),
            // Before a step there is no output of it.
            1 => {
                let rule = self.rule(depth).replace("outputs", "inputs").replace("output", "inputs");
                format!("require: {}", quoted(rule))
            }
            // The last one is a name that no rule knows.
            2 => format!("ensure: {}", self.of(&["output != null", "inputs != 1", "'true'", "state"])),
            3 => format!("output_schema: {}", self.schema(depth)),
            4 => format!("input_schema: {}", self.schema(depth)),
            5 => format!("input: {}", quoted(self.template(depth))),
            _ => format!("definition: {}", self.yaml(more)),
        };
        let end = match self.below(5) {
            0 => format!("output: {}", quoted(self.template(depth))),
            1 => format!("inputs: {}", self.schema(depth)),
            2 => format!(
                "{}: {}",
                self.of(&["order", "budget", "timeout", "tools", "recovery", "x"]),
                self.yaml(more)
            ),
            _ => String::new(),
        };
        format!(
            "name: random\nagents:\n  - {{id: one, framework: native, prompt: {prompt}, retry: {{attempts: 1}}, {part}}}\n{end}\n"
        )
    }

    /// What a framework's client might send instead of a conversation.
    pub(crate) fn conversation(&mut self) -> String {
        let depth = self.below(4);
        let one = |dice: &mut Dice| {
            let role = dice.of(&["user", "system", "assistant", "tool", "developer", "nobody"]);
            format!(
                r#"{{"role": "{role}", "content": {}, "{}": {}}}"#,
                dice.json(depth),
                dice.of(&["name", "tool_calls", "x"]),
                dice.json(depth)
            )
        };
        let messages = self.list(5, ",", one);
        let key =
            self.of(&["tools", "stream", "n", "response_format", "max_tokens", "stop", "seed", "logit_bias"]);
        format!(r#"{{"model": {}, "messages": [{messages}], "{key}": {}}}"#, self.word(), self.json(depth))
    }
}
