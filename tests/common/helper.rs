//! Children that are told what to do, line by line, and answer.

#![allow(dead_code)] // each test binary uses a part of it

use std::{
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::common;

/// A child with its lines in and out.
pub(crate) struct Helper {
    pub(crate) child: common::Reaped,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    pub(crate) fn new(mut child: Child) -> Helper {
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Helper { child: common::Reaped(child), input, output }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("the child listens");
    }

    /// The next line of the child that is meant for us: the test harness prints some, too.
    pub(crate) fn hear(&mut self) -> String {
        self.hear_or_end().unwrap_or_else(|| panic!("the child ended early: {:?}", self.child.0.wait()))
    }

    /// The same, or `None` if it has ended.
    pub(crate) fn hear_or_end(&mut self) -> Option<String> {
        for line in &mut self.output {
            // The harness may print its progress on the same line, before ours.
            if let Some((_, rest)) = line.expect("the child's output").split_once("> ") {
                return Some(rest.to_string());
            }
        }
        None
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child.0)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the child can be signalled");
    }

    /// Dead when this returns.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.0.wait().expect("the child can be waited for");
    }

    pub(crate) fn finish(mut self) {
        drop(self.input);
        let status = self.child.0.wait().expect("the child can be waited for");
        assert!(status.success(), "a child failed: {status}");
    }
}

/// Lets all of them go, once all are there.
pub(crate) fn start(helpers: &mut [Helper]) {
    for helper in helpers.iter_mut() {
        assert_eq!(helper.hear(), "ready");
    }
    for helper in helpers {
        helper.tell("go");
    }
}

/// A line to the parent.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "> {line}").expect("the parent listens");
    out.flush().expect("the parent listens");
}

/// The parent's lines.
pub(crate) fn commands() -> impl Iterator<Item = String> {
    std::io::stdin().lines().map(|line| line.expect("the parent's line"))
}
