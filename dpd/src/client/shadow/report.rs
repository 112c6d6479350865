//! What was compared and how it came out, by classes.

use super::super::table::{printable, table};
use super::faults::Fault;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How many of a class are named.
const NAMED: usize = 20;

/// What was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Products,
    Metadata,
    Annotations,
    Archives,
    Columns,
    Totals,
}

/// How it came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Equal,
    OursMore,
    TheirsMore,
    Differs,
    /// One of them could not be asked for it.
    NotCompared,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            What::Products => "data products",
            What::Metadata => "metadata",
            What::Annotations => "annotations",
            What::Archives => "archives",
            What::Columns => "columns",
            What::Totals => "totals of filters",
        }
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Equal => "equal",
            Verdict::OursMore => "new has more",
            Verdict::TheirsMore => "old has more",
            Verdict::Differs => "differs",
            Verdict::NotCompared => "not compared",
        }
    }
}

/// What is of one class.
#[derive(Debug, Default)]
struct Class {
    count: usize,
    /// The first of them: which, and how they differ.
    first: Vec<(String, String)>,
}

/// All that was counted.
#[derive(Debug, Default)]
pub(super) struct Report {
    classes: BTreeMap<(What, Verdict, Option<Fault>), Class>,
    notes: Vec<String>,
}

impl Report {
    /// Counts things that are equal.
    pub(super) fn equal(&mut self, what: What, count: usize) {
        if count > 0 {
            self.classes.entry((what, Verdict::Equal, None)).or_default().count += count;
        }
    }

    /// Counts one that is not: which, how it differs, and what explains that.
    pub(super) fn differs(
        &mut self,
        what: What,
        verdict: Verdict,
        why: Option<Fault>,
        which: impl Into<String>,
        how: impl Into<String>,
    ) {
        let class = self.classes.entry((what, verdict, why)).or_default();
        class.count += 1;
        if class.first.len() < NAMED {
            class.first.push((which.into(), how.into()));
        }
    }

    /// Something to know beside what was counted.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// How much differs that nothing explains.
    pub(super) fn unexplained(&self) -> usize {
        let open = self.classes.iter().filter(|((_, verdict, why), _)| is_open(*verdict, *why));
        open.map(|(_, class)| class.count).sum()
    }

    pub(super) fn json(&self, old: &str, new: &str, asked: usize) -> Value {
        let classes = self.classes.iter().map(|((what, verdict, why), class)| {
            let examples = class.first.iter().map(|(which, how)| json!({"which": which, "how": how}));
            json!({
                "what": what.word(),
                "verdict": verdict.word(),
                "explained_by": why.map(Fault::words),
                "count": class.count,
                "examples": examples.collect::<Vec<_>>(),
            })
        });
        json!({
            "old": old,
            "new": new,
            "requests_to_each": asked,
            "unexplained": self.unexplained(),
            "classes": classes.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    pub(super) fn text(&self, asked: usize) -> String {
        let row = |((what, verdict, why), class): (&(What, Verdict, Option<Fault>), &Class)| {
            let why = match why {
                Some(fault) => fault.words(),
                None if is_open(*verdict, None) => "UNEXPLAINED",
                None => "",
            };
            vec![what.word().to_owned(), verdict.word().to_owned(), class.count.to_string(), why.to_owned()]
        };
        let rows: Vec<_> = self.classes.iter().map(row).collect();
        let mut lines = vec![table(&["WHAT", "IS", "COUNT", "BECAUSE"], &rows)];
        for ((what, verdict, why), class) in &self.classes {
            if is_open(*verdict, *why) {
                lines.push(String::new());
                lines.push(format!("unexplained: {}, {}", what.word(), verdict.word()));
                lines.extend(
                    class.first.iter().map(|(which, how)| format!("  {}: {}", printable(which), printable(how))),
                );
                if class.count > class.first.len() {
                    lines.push(format!("  and {} more", class.count - class.first.len()));
                }
            }
        }
        lines.push(String::new());
        lines.extend(self.notes.iter().map(|note| format!("note: {}", printable(note))));
        lines.push(format!("{asked} requests to each; {} differences are unexplained", self.unexplained()));
        lines.join("\n")
    }
}

fn is_open(verdict: Verdict, why: Option<Fault>) -> bool {
    why.is_none() && !matches!(verdict, Verdict::Equal | Verdict::NotCompared)
}
