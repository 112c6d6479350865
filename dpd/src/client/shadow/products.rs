//! Which data products there are: every uid that either lists.

use super::faults::Fault;
use super::report::{Verdict, What};
use super::sides::{Question, Side};
use super::{Failure, Result, Shadow};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// How many rows are asked for at a time: as many as the dashboard's grid does.
const PAGE: usize = 100;
/// How often a list is gone through where it came out shorter than its total: products come and go meanwhile.
const PASSES: usize = 2;

/// What is remembered of a row.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) execution_block: String,
    pub(super) dataproduct_file: String,
    pub(super) metadata_file: String,
}

/// What both list.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) old: BTreeMap<String, Row>,
    pub(super) new: BTreeMap<String, Row>,
    /// Values of each column, as they occur in rows of the new one.
    pub(super) values: HashMap<String, Vec<Value>>,
    /// The fields that rows of each have.
    pub(super) old_fields: BTreeSet<String>,
    pub(super) new_fields: BTreeSet<String>,
}

impl Lists {
    /// The uids that both have, no more than so many, spread over all.
    pub(super) fn sample(&self, most: usize) -> Vec<String> {
        let both: Vec<&String> = self.old.keys().filter(|uid| self.new.contains_key(*uid)).collect();
        let step = both.len().div_ceil(most.max(1)).max(1);
        both.into_iter().step_by(step).cloned().collect()
    }

    /// Whether both have it.
    pub(super) fn both_have(&self, uid: &str) -> bool {
        self.old.contains_key(uid) && self.new.contains_key(uid)
    }
}

impl Row {
    fn of(row: &Map<String, Value>) -> Row {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Row {
            execution_block: text("execution_block"),
            dataproduct_file: text("dataproduct_file"),
            metadata_file: text("metadata_file"),
        }
    }

    /// Whether something on the volume stands behind it.
    pub(super) fn has_file(&self) -> bool {
        !["", "None"].contains(&self.dataproduct_file.as_str())
    }

    /// When its metadata file was changed last, where that can be found out: on the volume, or from the new service.
    pub(super) fn changed(&self, uid: &str, volume: Option<&Path>, new: &Side) -> Option<DateTime<Utc>> {
        if let Some(volume) = volume {
            return Some(std::fs::metadata(volume.join(&self.metadata_file)).ok()?.modified().ok()?.into());
        }
        let name = self.metadata_file.rsplit('/').next()?;
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        new.changed(&format!("/products/{uid}/files/{name}"))
    }
}

/// The body that asks for a page of what some conditions find.
pub(super) fn page(items: &Value, page: usize, size: usize) -> Value {
    json!({"filterModel": {"items": items}, "sortModel": [], "page": page, "pageSize": size})
}

/// The rows of an answer: those of a page or, of earlier releases, all of them.
fn rows_of(body: &Value) -> &[Value] {
    body.get("data").unwrap_or(body).as_array().map(Vec::as_slice).unwrap_or_default()
}

/// How many rows there are in all.
pub(super) fn total_of(body: &Value) -> Option<usize> {
    match body {
        Value::Array(rows) => Some(rows.len()),
        body => body["total"].as_u64().and_then(|total| usize::try_from(total).ok()),
    }
}

/// Is told a row, the how manieth it is, and the total.
type Tell<'a> = dyn FnMut(&Map<String, Value>, usize, usize) + 'a;

/// The rows that conditions find, page by page, each told; no more than `most`. Answers the total.
pub(super) fn each_row(side: &Side, items: &Value, most: usize, tell: &mut Tell<'_>) -> Result<usize> {
    let (mut seen, mut total, mut number) = (0, 0, 0);
    loop {
        let answer = side.ask(Question::Post("/filterdataproducts", &page(items, number, PAGE)))?;
        if !answer.is_good() {
            return Err(Failure::Failed(format!("a page of data products is not to be had: {}", answer.shown())));
        }
        let is_whole = answer.body.is_array();
        let rows = rows_of(&answer.body);
        total = total_of(&answer.body).unwrap_or(total);
        for row in rows.iter().filter_map(Value::as_object) {
            seen += 1;
            tell(row, seen, total);
        }
        number += 1;
        if is_whole || rows.is_empty() || seen >= total.min(most) {
            return Ok(total);
        }
    }
}

/// Lists both, and compares the uids.
pub(super) fn compare(shadow: &mut Shadow, read_at: Option<DateTime<Utc>>) -> Result<Lists> {
    let mut lists = Lists::default();
    let everything = json!([]);
    for is_old in [true, false] {
        let Shadow { sides, progress, values, .. } = &mut *shadow;
        let (side, word) = if is_old { (&sides.old, "listing the old") } else { (&sides.new, "listing the new") };
        let mut own = BTreeMap::new();
        let mut total = 0;
        for _ in 0..PASSES {
            total = each_row(side, &everything, usize::MAX, &mut |row, seen, total| {
                progress.at(word, seen, total);
                if let Some(uid) = row.get("uid").and_then(Value::as_str) {
                    own.insert(uid.to_owned(), Row::of(row));
                }
                let fields = if is_old { &mut lists.old_fields } else { &mut lists.new_fields };
                for field in row.keys().filter(|field| !fields.contains(*field)).collect::<Vec<_>>() {
                    fields.insert(field.clone());
                }
                if !is_old {
                    note_values(&mut lists.values, row, *values, seen);
                }
            })?;
            if own.len() >= total {
                break;
            }
        }
        if own.len() < total {
            let side = if is_old { "old" } else { "new" };
            shadow
                .report
                .note(format!("the {side} service lists {} of the {total} data products that it counts", own.len()));
        }
        *(if is_old { &mut lists.old } else { &mut lists.new }) = own;
    }
    let both = lists.old.keys().filter(|uid| lists.new.contains_key(*uid)).count();
    shadow.report.equal(What::Products, both);
    for (uid, row) in lists.old.iter().filter(|(uid, _)| !lists.new.contains_key(*uid)) {
        let why = why_old_only(shadow, row);
        shadow.report.differs(What::Products, Verdict::TheirsMore, why, uid, shown(row));
    }
    let mut blocks: HashMap<&str, Vec<&String>> = HashMap::new();
    for (uid, row) in &lists.old {
        blocks.entry(&row.execution_block).or_default().push(uid);
    }
    for (uid, row) in lists.new.iter().filter(|(uid, _)| !lists.old.contains_key(*uid)) {
        let same = blocks.get(row.execution_block.as_str()).map(Vec::as_slice).unwrap_or_default();
        let why = why_new_only(shadow, uid, row, same, read_at)?;
        shadow.report.differs(What::Products, Verdict::OursMore, why, uid, shown(row));
    }
    Ok(lists)
}

fn shown(row: &Row) -> String {
    format!("{} in {}", row.execution_block, row.dataproduct_file)
}

/// Notes values of a row that filters can be tried with: the first ones, and now and then others.
fn note_values(values: &mut HashMap<String, Vec<Value>>, row: &Map<String, Value>, most: usize, seen: usize) {
    for (field, value) in row {
        if !(value.is_string() || value.is_number()) || value.as_str() == Some("") {
            continue;
        }
        let own = values.entry(field.clone()).or_default();
        if own.contains(value) {
            continue;
        }
        if own.len() < most {
            own.push(value.clone());
        } else if let Some(last) = own.last_mut()
            && seen.is_power_of_two()
        {
            *last = value.clone();
        }
    }
}

/// Why only the old service has a product: its file is gone, as far as that can be seen here.
fn why_old_only(shadow: &Shadow, row: &Row) -> Option<Fault> {
    let volume = shadow.volume.as_ref()?;
    let is_gone = row.has_file() && !volume.join(&row.metadata_file).exists();
    is_gone.then_some(Fault::Gone)
}

/// Why only the new service has a product. `same` are those that the old one has of the same execution block.
fn why_new_only(
    shadow: &Shadow,
    uid: &str,
    row: &Row,
    same: &[&String],
    read_at: Option<DateTime<Utc>>,
) -> Result<Option<Fault>> {
    let Shadow { sides, volume, .. } = shadow;
    let metadata = |side: &Side, uid: &str| side.ask(Question::Post("/dataproductmetadata", &json!({"uid": uid})));
    let there = metadata(&sides.old, uid)?;
    if there.is_good() && there.body.as_object().is_some_and(|metadata| metadata.contains_key("execution_block")) {
        return Ok(Some(Fault::Unlisted));
    }
    if !same.is_empty() {
        let own = bare(&metadata(&sides.new, uid)?.body);
        for other in same.iter().take(PAGE) {
            if own.is_some() && bare(&metadata(&sides.old, other)?.body) == own {
                return Ok(Some(Fault::Identical));
            }
        }
    }
    let changed = if row.has_file() { row.changed(uid, volume.as_deref(), &sides.new) } else { None };
    Ok(changed.zip(read_at).filter(|(changed, read_at)| changed >= read_at).map(|_| Fault::New))
}

/// Metadata without what says where they are.
fn bare(metadata: &Value) -> Option<Map<String, Value>> {
    let mut metadata = metadata.as_object().filter(|metadata| metadata.contains_key("execution_block"))?.clone();
    for own in ["date_created", "dataproduct_file", "metadata_file", "uid"] {
        metadata.remove(own);
    }
    Some(metadata)
}
