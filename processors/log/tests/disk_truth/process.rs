//! A running writer, and what it has said.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::promises::Promises;
use crate::writer::Task;

const LONGEST: Duration = Duration::from_secs(60);

/// A running writer. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    heard: Arc<Heard>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Heard {
    promises: Mutex<Promises>,
    more: Condvar,
}

impl Running {
    /// Starts the writer, behind `wrapper` where there is one.
    pub(crate) fn start(task: &Task, wrapper: &[&str]) -> Running {
        let this = std::env::current_exe().unwrap();
        let mut words = wrapper.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        words.push(this.display().to_string());
        let test = "writer::the_writer_acknowledges_every_block_it_wrote";
        words.extend(["--exact", test, "--nocapture", "--test-threads=1"].map(str::to_owned));
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .envs(task.environment())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let heard = Arc::new(Heard::default());
        let (lines, hearing) = (BufReader::new(child.stdout.take().unwrap()), heard.clone());
        let listener = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                hearing.promises.lock().unwrap().hear(&line);
                hearing.more.notify_all();
            }
            hearing.promises.lock().unwrap().ended = true;
            hearing.more.notify_all();
        });
        Running { child, heard, listener: Some(listener) }
    }

    /// Waits until what was said fulfils a condition, or the writer has ended.
    pub(crate) fn wait_until(&self, condition: impl Fn(&Promises) -> bool) -> Promises {
        let promises = self.heard.promises.lock().unwrap();
        let waiting = |promises: &mut Promises| !promises.ended && !condition(promises);
        let (promises, timeout) = self.heard.more.wait_timeout_while(promises, LONGEST, waiting).unwrap();
        assert!(
            !timeout.timed_out(),
            "the writer says nothing more after {} acknowledgements",
            promises.acks()
        );
        promises.clone()
    }

    /// Stops the writer where it stands, every thread of it.
    pub(crate) fn stop(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.child.id());
        let is_stopped = |stat: String| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'));
        let all_stopped = || {
            let mut threads = fs::read_dir(&tasks).unwrap().map(|thread| thread.unwrap().path().join("stat"));
            threads.all(|stat| fs::read_to_string(stat).is_ok_and(is_stopped))
        };
        while !all_stopped() {
            std::thread::yield_now();
        }
    }

    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Kills it and gives all it has said until then.
    pub(crate) fn kill(mut self) -> Promises {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.listener.take().unwrap().join().unwrap();
        self.heard.promises.lock().unwrap().clone()
    }

    /// Waits for its own end.
    pub(crate) fn end(mut self) -> (ExitStatus, Promises) {
        let status = self.child.wait().unwrap();
        self.listener.take().unwrap().join().unwrap();
        let promises = self.heard.promises.lock().unwrap().clone();
        (status, promises)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
