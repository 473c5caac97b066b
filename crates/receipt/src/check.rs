//! Checks: what was asked, and the three ways in which it can come out.
//!
//! Each judge has a catalog of its checks, made by [`catalog!`](crate::catalog); everything that shows checks is written once for all of them.

use std::fmt;

/// The questions that a receipt answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// Which model? Who published it, are these exactly its bytes.
    Model,
    /// In which environment? Which node, hardware and code ran it, and when.
    Environment,
    /// Was the output made the right way?
    Output,
    /// Is it settled?
    Settlement,
}

impl Question {
    /// Every question, in order.
    pub const ALL: [Self; 4] = [Self::Model, Self::Environment, Self::Output, Self::Settlement];

    /// The question in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Model => "Which model?",
            Self::Environment => "In which environment?",
            Self::Output => "Was the output made the right way?",
            Self::Settlement => "Is it settled?",
        }
    }
}

/// The checks that a judge knows, in the order in which they are shown.
pub trait Catalog: Copy + fmt::Debug + fmt::Display + Ord + 'static {
    /// Why one failed.
    type Reason: Cause;
    /// Why one was not made.
    type Why: Clone + fmt::Debug + fmt::Display + PartialEq;

    /// Its name: in policies, in JSON, and as the title of its row.
    fn name(self) -> &'static str;
    /// The question that it belongs to.
    fn question(self) -> Question;
    /// The section that says what is checked.
    fn source(self) -> &'static str;
    /// What remains unknown as long as this check was not made.
    fn not_shown(self) -> &'static str;
}

/// Why a check failed.
pub trait Cause: Clone + fmt::Debug + fmt::Display + PartialEq {
    /// A stable word for programs.
    fn code(&self) -> &'static str;
    /// What had to be found and what was found, where both are values.
    fn expected_and_got(&self) -> (Option<String>, Option<String>);
}

/// How a check came out. There is no fourth way, and "not checked" is never success.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<C: Catalog> {
    /// Checked, and so.
    Passed,
    /// Checked, and not so.
    Failed(C::Reason),
    /// Not checked.
    NotChecked(C::Why),
}

/// One check that was made or not made.
#[derive(Clone, Debug, PartialEq)]
pub struct Check<C: Catalog> {
    /// Which one.
    pub id: C,
    /// The question that it belongs to.
    pub question: Question,
    /// The title of its row.
    pub title: &'static str,
    /// How it came out.
    pub outcome: Outcome<C>,
    /// What had to be found, where that is one value.
    pub expected: Option<String>,
    /// What was found.
    pub got: Option<String>,
    /// The section that says what is checked.
    pub source: &'static str,
}

impl<C: Catalog> Check<C> {
    /// Passed; `got` says what was found.
    pub fn passed(id: C, got: impl Into<String>) -> Self {
        Self::new(id, Outcome::Passed, None, Some(got.into()))
    }

    /// Failed.
    pub fn failed(id: C, reason: impl Into<C::Reason>) -> Self {
        let reason = reason.into();
        let (expected, got) = reason.expected_and_got();
        Self::new(id, Outcome::Failed(reason), expected, got)
    }

    /// Not checked.
    pub fn not_checked(id: C, why: C::Why) -> Self {
        Self::new(id, Outcome::NotChecked(why), None, None)
    }

    /// Passed or failed, as `result` says.
    pub fn of<R: Into<C::Reason>>(id: C, result: Result<impl Into<String>, R>) -> Self {
        match result {
            Ok(got) => Self::passed(id, got),
            Err(reason) => Self::failed(id, reason),
        }
    }

    /// Whether it passed.
    pub fn has_passed(&self) -> bool {
        self.outcome == Outcome::Passed
    }

    /// Whether it failed.
    pub fn has_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }

    fn new(id: C, outcome: Outcome<C>, expected: Option<String>, got: Option<String>) -> Self {
        Self { id, question: id.question(), title: id.name(), outcome, expected, got, source: id.source() }
    }
}

/// Makes the enum `CheckId` and its [`Catalog`]: one row a check, as
/// `/// doc` `Name = "name", Question, "page.md §n", "what remains unknown without it";`
#[macro_export]
macro_rules! catalog {
    ($reason:ty, $why:ty; $($(#[$doc:meta])* $id:ident = $name:literal, $question:ident, $source:literal, $not_shown:literal;)*) => {
        /// The checks that this judge knows, in the order in which they are shown.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum CheckId { $($(#[$doc])* $id),* }

        impl CheckId {
            /// Every check, in order.
            pub const ALL: &[Self] = &[$(Self::$id),*];

            /// The check of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|id| id.name() == name)
            }

            /// Its name: in policies, in JSON, and as the title of its row.
            pub fn name(self) -> &'static str {
                match self { $(Self::$id => $name),* }
            }
        }

        impl $crate::check::Catalog for CheckId {
            type Reason = $reason;
            type Why = $why;

            fn name(self) -> &'static str {
                CheckId::name(self)
            }

            fn question(self) -> $crate::check::Question {
                match self { $(Self::$id => $crate::check::Question::$question),* }
            }

            fn source(self) -> &'static str {
                match self { $(Self::$id => $source),* }
            }

            fn not_shown(self) -> &'static str {
                match self { $(Self::$id => $not_shown),* }
            }
        }

        impl ::std::fmt::Display for CheckId {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
