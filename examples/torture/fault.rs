//! What a judge may find.

use std::fmt;

pub(crate) type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Why a worker, or a comparison, ends.
#[derive(Debug)]
pub(crate) enum Fault {
    /// An acknowledged change is not there.
    Lost(String),
    /// A value is not whole, or not of its key.
    Torn(String),
    /// What may be in one place only is in two.
    Twice(String),
    /// Anything else that the model forbids.
    Wrong(String),
    /// No verdict: the torture itself could not go on.
    Failed(AnyError),
}

/// How many of each were found.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Verdicts {
    pub(crate) lost: u64,
    pub(crate) torn: u64,
    pub(crate) twice: u64,
    pub(crate) wrong: u64,
    pub(crate) failed: u64,
}

impl Verdicts {
    pub(crate) fn count(&mut self, fault: &Fault) {
        match fault {
            Fault::Lost(_) => self.lost += 1,
            Fault::Torn(_) => self.torn += 1,
            Fault::Twice(_) => self.twice += 1,
            Fault::Wrong(_) => self.wrong += 1,
            Fault::Failed(_) => self.failed += 1,
        }
    }

    pub(crate) fn add(&mut self, more: Verdicts) {
        self.lost += more.lost;
        self.torn += more.torn;
        self.twice += more.twice;
        self.wrong += more.wrong;
        self.failed += more.failed;
    }

    pub(crate) fn none(self) -> bool {
        self.lost + self.torn + self.twice + self.wrong + self.failed == 0
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Lost(text) => write!(f, "lost: {text}"),
            Fault::Torn(text) => write!(f, "torn: {text}"),
            Fault::Twice(text) => write!(f, "twice: {text}"),
            Fault::Wrong(text) => write!(f, "wrong: {text}"),
            Fault::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}

impl Fault {
    /// The fault that `Display` printed.
    pub(crate) fn parse(line: &str) -> Fault {
        let (kind, text) = line.split_once(": ").unwrap_or(("", line));
        match kind {
            "lost" => Fault::Lost(text.into()),
            "torn" => Fault::Torn(text.into()),
            "twice" => Fault::Twice(text.into()),
            "wrong" => Fault::Wrong(text.into()),
            _ => Fault::Failed(text.into()),
        }
    }
}

/// No call may fail here: there is room enough, and nothing else in the way.
impl From<shf::Error> for Fault {
    fn from(error: shf::Error) -> Fault {
        Fault::Wrong(format!("a call failed: {error} [{}]", error.detail().place()))
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        Fault::Failed(error.into())
    }
}
