//! Real servers for tests, started by the scripts of `infra/dev`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server that lives as long as this value, and never longer than the test process: it stops when its standard input
/// ends, which happens however the process dies.
pub(crate) struct Server {
    child: Child,
    line: String,
}

impl Server {
    /// Starts `infra/dev/NAME`; nothing where this machine may not install what the server needs, which is reported as
    /// a skip. With `keep` the data outlive the server, so that it can be started again.
    pub(crate) fn start(name: &str, keep: Option<&Path>) -> Option<Self> {
        let mut command = Command::new(script(name));
        command.arg("run").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(dir) = keep {
            command.arg("--dir").arg(dir);
        }
        let mut child = command.spawn().expect("the scripts of infra/dev can be run");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped"))
            .read_line(&mut line)
            .expect("the script's output can be read");
        if !line.is_empty() {
            return Some(Server { child, line });
        }
        let mut said = String::new();
        child
            .stderr
            .as_mut()
            .expect("piped")
            .read_to_string(&mut said)
            .expect("the script's errors can be read");
        let code = child.wait().expect("the script ends").code();
        assert_eq!(code, Some(3), "infra/dev/{name} did not start its server:\n{said}");
        skip(name, &said);
        None
    }

    /// A value of the line that the script printed.
    pub(crate) fn value(&self, key: &str) -> String {
        let prefix = format!("{key}=");
        let found = self.line.split_whitespace().find_map(|pair| pair.strip_prefix(prefix.as_str()));
        found.unwrap_or_else(|| panic!("no `{key}` in `{}`", self.line)).to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Says in the file that the whole run reads that something could not be tested here.
fn skip(name: &str, why: &str) {
    let line = format!("{name} {}\n", why.lines().last().unwrap_or("it cannot be installed here"));
    eprint!("skipped {line}");
    if let Some(path) = std::env::var_os("OMIUM_SKIPS") {
        let mut file =
            std::fs::OpenOptions::new().append(true).create(true).open(path).expect("the list of skips");
        file.write_all(line.as_bytes()).expect("the list of skips can be written");
    }
}

/// The script that starts and stops one kind of server.
pub(crate) fn script(name: &str) -> PathBuf {
    let above =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("infra/dev").join(name));
    above.into_iter().find(|script| script.exists()).expect("the project has its scripts")
}
