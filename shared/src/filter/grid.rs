//! `POST /filterdataproducts`: the filter, sort and page models of the dashboard's grid (MUI DataGrid).

use super::{BadSearch, Comparison, Filter, Key, MAX_CONDITIONS, Test, Text, bounded, pairs};
use crate::date;
use crate::number::Number;
use crate::query::{Page, Query, Sort};
use serde_json::{Map, Value};

/// The most rows on one page, whatever is asked.
pub const MAX_PAGE_SIZE: usize = 1000;
/// The most fields to sort by.
const MAX_SORTS: usize = 16;
/// The rows on a page when nothing is asked.
const DEFAULT_PAGE_SIZE: usize = 100;

/// Reads the body of a filter: its query, and the page that it names.
///
/// # Errors
/// What a client must put right: an unknown operator, a value of the wrong kind, a model of the wrong shape.
pub fn parse(body: &Value) -> Result<(Query, Page), BadSearch> {
    let body = body.as_object().ok_or_else(|| BadSearch::new("The filter must be a JSON object."))?;
    let mut all = Vec::new();
    for name in ["filterModel", "searchPanelOptions"] {
        if let Some(model) = object(body, name)? {
            all.push(items(model)?);
            all.push(quick(model)?);
        }
    }
    let page = Page {
        page: whole(body, "page", 0)?,
        page_size: whole(body, "pageSize", DEFAULT_PAGE_SIZE)?.min(MAX_PAGE_SIZE),
    };
    let query = Query {
        filter: Filter::And(all),
        first: None,
        sort: sort(body)?,
        after: None,
        offset: page.page.saturating_mul(page.page_size),
        limit: page.page_size,
    };
    Ok((query, page))
}

fn object<'a>(body: &'a Map<String, Value>, name: &str) -> Result<Option<&'a Map<String, Value>>, BadSearch> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(model)) => Ok(Some(model)),
        Some(_) => Err(BadSearch::new(format!("{name} must be an object."))),
    }
}

fn list<'a>(body: &'a Map<String, Value>, name: &str) -> Result<&'a [Value], BadSearch> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => bounded(name, items.len(), MAX_CONDITIONS).map(|()| items.as_slice()),
        Some(_) => Err(BadSearch::new(format!("{name} must be a list."))),
    }
}

fn whole(body: &Map<String, Value>, name: &str, default: usize) -> Result<usize, BadSearch> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| BadSearch::new(format!("{name} must be a whole number from 0, but it is {value}."))),
    }
}

/// What stands under the first of these names that has anything, which are the newer grid's and the older one's for the same.
fn either<'a>(model: &'a Map<String, Value>, names: [&str; 2]) -> Option<&'a Value> {
    names.into_iter().find_map(|name| model.get(name).filter(|value| !value.is_null()))
}

/// Joins conditions as an operator says. No condition at all excludes nothing.
fn join(operator: &str, word: Option<&Value>, conditions: Vec<Filter>) -> Result<Filter, BadSearch> {
    let any = match word {
        None | Some(Value::Null) => false,
        Some(Value::String(word)) if word.eq_ignore_ascii_case("and") => false,
        Some(Value::String(word)) if word.eq_ignore_ascii_case("or") => true,
        Some(other) => return Err(BadSearch::new(format!("{operator} must be 'and' or 'or', but it is {other}."))),
    };
    Ok(if any && !conditions.is_empty() { Filter::Or(conditions) } else { Filter::And(conditions) })
}

fn items(model: &Map<String, Value>) -> Result<Filter, BadSearch> {
    let mut conditions = Vec::new();
    for value in list(model, "items")? {
        let Value::Object(item) = value else {
            return Err(BadSearch::new(format!("An item of a filter must be an object, but it is {value}.")));
        };
        conditions.extend(condition(item)?);
    }
    join("logicOperator", either(model, ["logicOperator", "linkOperator"]), conditions)
}

/// The quick filter: each of its words in any field of the row.
fn quick(model: &Map<String, Value>) -> Result<Filter, BadSearch> {
    let mut conditions = Vec::new();
    for word in list(model, "quickFilterValues")? {
        if let Some(word) = scalar_text("quickFilterValues", word)? {
            conditions.push(Filter::Any(Key::Every, Test::Contains(Text::new(&word))));
        }
    }
    join("quickFilterLogicOperator", model.get("quickFilterLogicOperator"), conditions)
}

/// One item's condition; `None` where the item asks nothing, as the grid sends while a filter is being written.
fn condition(item: &Map<String, Value>) -> Result<Option<Filter>, BadSearch> {
    let field = match either(item, ["field", "columnField"]) {
        None => return Ok(None),
        Some(Value::String(field)) if field.is_empty() => return Ok(None),
        Some(Value::String(field)) => field,
        Some(other) => return Err(BadSearch::new(format!("An item's field must be a string, but it is {other}."))),
    };
    if field == "formFields" {
        return form(item).map(Some);
    }
    let operator = match either(item, ["operator", "operatorValue"]) {
        Some(Value::String(operator)) => operator.as_str(),
        None => return Err(BadSearch::new(format!("{field}: the item has no operator."))),
        Some(other) => return Err(BadSearch::new(format!("{field}: {other} is no operator."))),
    };
    let value = item.get("value").unwrap_or(&Value::Null);
    let condition = test(field, operator, value)?.map(|(positive, test)| {
        let condition = Filter::Any(Key::Path(field.clone()), test);
        if positive { condition } else { condition.not() }
    });
    Ok(condition)
}

/// The search panel's list of pairs, as in a search.
fn form(item: &Map<String, Value>) -> Result<Filter, BadSearch> {
    let mut conditions = Vec::new();
    for pair in list(item, "keyPairs")? {
        let part = |name: &str| scalar_text(name, pair.get(name).unwrap_or(&Value::Null));
        if let (Some(key), Some(value)) = (part("keyPair")?, part("valuePair")?) {
            conditions.push(pairs::contains(&key, &value));
        }
    }
    Ok(Filter::And(conditions))
}

/// What an operator asks of a field's leaves, and whether it asks that (`true`) or its contrary.
fn test(field: &str, operator: &str, value: &Value) -> Result<Option<(bool, Test)>, BadSearch> {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    let text = |positive, test: fn(Text) -> Test| {
        Ok(scalar_text(field, value)?.map(|text| (positive, test(Text::new(&text)))))
    };
    let number = |positive, comparison| Ok(number(field, value)?.map(|n| (positive, Test::Number(comparison, n))));
    let day = |positive, comparison| Ok(day(field, value)?.map(|day| (positive, Test::Date(comparison, day))));
    match operator {
        "isEmpty" => Ok(Some((false, Test::Present))),
        "isNotEmpty" => Ok(Some((true, Test::Present))),
        "isAnyOf" => {
            let texts = alternatives(field, value)?;
            Ok((!texts.is_empty()).then_some((true, Test::AnyOf(texts))))
        }
        // Old clients send `equals` for dates too, where one may be written with a time.
        "equals" if field == "date_created" => day(true, Equal),
        "equals" => text(true, Test::Equals),
        "doesNotEqual" => text(false, Test::Equals),
        "contains" => text(true, Test::Contains),
        "doesNotContain" => text(false, Test::Contains),
        "startsWith" => text(true, Test::StartsWith),
        "endsWith" => text(true, Test::EndsWith),
        "=" => number(true, Equal),
        "!=" => number(false, Equal),
        ">" => number(true, Greater),
        ">=" => number(true, GreaterOrEqual),
        "<" => number(true, Less),
        "<=" => number(true, LessOrEqual),
        "is" => day(true, Equal),
        "not" => day(false, Equal),
        "after" => day(true, Greater),
        "onOrAfter" | "greaterThan" => day(true, GreaterOrEqual),
        "before" => day(true, Less),
        "onOrBefore" | "lessThan" => day(true, LessOrEqual),
        unknown => Err(BadSearch::new(format!("{field}: the operator '{unknown}' is not known."))),
    }
}

/// A value as text; `None` where it is empty and asks nothing.
fn scalar_text(field: &str, value: &Value) -> Result<Option<String>, BadSearch> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(_) | Value::Number(_) => Ok(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => Err(BadSearch::new(format!("{field}: {value} is not a text."))),
    }
}

fn number(field: &str, value: &Value) -> Result<Option<Number>, BadSearch> {
    let wrong = || BadSearch::new(format!("{field}: {value} is not a number."));
    match value {
        Value::Number(_) => Ok(Number::of(value)),
        Value::Bool(_) => Err(wrong()),
        _ => match scalar_text(field, value).map_err(|_| wrong())? {
            None => Ok(None),
            Some(text) => Number::read(&text).map(Some).ok_or_else(wrong),
        },
    }
}

fn day(field: &str, value: &Value) -> Result<Option<chrono::NaiveDate>, BadSearch> {
    let wrong = || BadSearch::new(format!("{field}: {value} is not a date of the form YYYY-MM-DD."));
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => date::parse(text).map(Some).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

/// The values of `isAnyOf`: a list, or from old clients one string with commas.
fn alternatives(field: &str, value: &Value) -> Result<Vec<Text>, BadSearch> {
    let mut texts = Vec::new();
    match value {
        Value::Array(values) => {
            bounded(field, values.len(), MAX_CONDITIONS)?;
            for value in values {
                texts.extend(scalar_text(field, value)?.as_deref().map(Text::new));
            }
        }
        Value::String(joined) => {
            let parts = || joined.split(',').map(str::trim).filter(|text| !text.is_empty());
            bounded(field, parts().count(), MAX_CONDITIONS)?;
            texts.extend(parts().map(Text::new));
        }
        other => texts.extend(scalar_text(field, other)?.as_deref().map(Text::new)),
    }
    Ok(texts)
}

fn sort(body: &Map<String, Value>) -> Result<Vec<Sort>, BadSearch> {
    let mut sorts = Vec::new();
    for item in list(body, "sortModel")? {
        let wrong = || BadSearch::new(format!("sortModel: {item} is not of the form {{field, sort: 'asc'|'desc'}}."));
        let field = item.get("field").and_then(Value::as_str).ok_or_else(wrong)?;
        let descending = match item.get("sort") {
            // The grid's third state: not sorted by this column.
            None | Some(Value::Null) => continue,
            Some(Value::String(direction)) if direction == "asc" => false,
            Some(Value::String(direction)) if direction == "desc" => true,
            Some(_) => return Err(wrong()),
        };
        if !field.is_empty() && !sorts.iter().any(|sort: &Sort| sort.field == field) {
            sorts.push(Sort { field: field.to_owned(), descending });
        }
    }
    bounded("sortModel", sorts.len(), MAX_SORTS)?;
    Ok(sorts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Leaf;
    use serde_json::json;

    fn leaves() -> Vec<Leaf> {
        [
            ("date_created", json!("2023-10-31")),
            ("config.script", json!("Vis-Receive")),
            ("obscore.s_ra", json!(10.5)),
            ("obscore.calib_level", json!(0)),
            ("files.crc", json!("aa")),
            ("files.crc", json!("bb")),
        ]
        .map(|(key, value)| Leaf { key: key.to_owned(), value })
        .into()
    }

    fn finds(field: &str, operator: &str, value: Value) -> bool {
        let body = json!({"filterModel": {"items": [{"field": field, "operator": operator, "value": value}]}});
        parse(&body).unwrap_or_else(|e| panic!("{operator}: {e}")).0.filter.matches(&leaves())
    }

    #[test]
    fn every_operator_means_what_it_says() {
        for (field, operator, value, expected) in [
            ("config.script", "contains", json!("REC"), true),
            ("config.script", "contains", json!("rec%"), false),
            ("config.script", "doesNotContain", json!("rec"), false),
            ("config.script", "doesNotContain", json!("x"), true),
            ("absent", "doesNotContain", json!("x"), true),
            ("config.script", "equals", json!("vis-receive"), true),
            ("config.script", "equals", json!("vis"), false),
            ("config.script", "doesNotEqual", json!("vis"), true),
            ("config.script", "startsWith", json!("vis"), true),
            ("config.script", "endsWith", json!("vis"), false),
            ("config.script", "isEmpty", Value::Null, false),
            ("absent", "isEmpty", Value::Null, true),
            ("config.script", "isNotEmpty", json!(""), true),
            ("absent", "isNotEmpty", Value::Null, false),
            ("config.script", "isAnyOf", json!(["x", "vis-receive"]), true),
            ("config.script", "isAnyOf", json!("x, vis-receive"), true),
            ("config.script", "isAnyOf", json!(["x"]), false),
            ("obscore.calib_level", "isAnyOf", json!([0, 1]), true),
            ("obscore.s_ra", "=", json!(10.5), true),
            ("obscore.s_ra", "=", json!("10.50"), true),
            ("obscore.s_ra", "!=", json!(10.5), false),
            ("absent", "!=", json!(1), true),
            ("obscore.s_ra", ">", json!(10.5), false),
            ("obscore.s_ra", ">=", json!(10.5), true),
            ("obscore.s_ra", "<", json!(11), true),
            ("obscore.s_ra", "<=", json!(10), false),
            ("date_created", "is", json!("2023-10-31"), true),
            ("date_created", "equals", json!("2023-10-31T00:00:00.000Z"), true),
            ("date_created", "not", json!("2023-10-31"), false),
            ("date_created", "after", json!("2023-10-31"), false),
            ("date_created", "onOrAfter", json!("2023-10-31"), true),
            ("date_created", "before", json!("2023-11-01"), true),
            ("date_created", "onOrBefore", json!("2023-10-30"), false),
            ("date_created", "greaterThan", json!("2023-10-31"), true),
            ("date_created", "lessThan", json!("2023-10-31"), true),
            ("files.crc", "equals", json!("bb"), true),
            ("files", "contains", json!("bb"), true),
        ] {
            assert_eq!(finds(field, operator, value.clone()), expected, "{field} {operator} {value}");
        }
    }

    #[test]
    fn what_asks_nothing_is_ignored() {
        for item in [
            json!({"field": "", "operator": "contains", "value": "x"}),
            json!({"field": "a", "operator": "contains", "value": ""}),
            json!({"field": "a", "operator": "contains"}),
            json!({"field": "a", "operator": "isAnyOf", "value": []}),
            json!({"field": "a", "operator": "=", "value": null}),
            json!({"field": "formFields", "keyPairs": [{"keyPair": "", "valuePair": ""}]}),
        ] {
            for logic in ["and", "or"] {
                let body = json!({"filterModel": {"items": [item], "logicOperator": logic}});
                assert!(parse(&body).expect("a filter").0.filter.matches(&leaves()), "{item}");
            }
        }
    }

    #[test]
    fn items_join_as_they_are_told() {
        let body = |logic: &str| {
            json!({"filterModel": {"logicOperator": logic, "items": [
                {"field": "absent", "operator": "isNotEmpty"},
                {"field": "config.script", "operator": "contains", "value": "vis"}]},
                "searchPanelOptions": {"items": [{"field": "formFields", "keyPairs": [{"keyPair": "crc", "valuePair": "AA"}]}]}})
        };
        assert!(parse(&body("or")).expect("a filter").0.filter.matches(&leaves()));
        assert!(!parse(&body("and")).expect("a filter").0.filter.matches(&leaves()));
        let quick = |words: Value| {
            let body = json!({"filterModel": {"quickFilterValues": words}});
            parse(&body).expect("a filter").0.filter.matches(&leaves())
        };
        assert!(quick(json!(["vis", "10.5"])) && !quick(json!(["vis", "zz"])));
    }

    #[test]
    fn the_older_grids_names_mean_the_same() {
        let found = |model: Value| {
            let body = json!({"filterModel": model});
            parse(&body).unwrap_or_else(|error| panic!("{body}: {error}")).0.filter.matches(&leaves())
        };
        let item =
            |value: &str| json!({"id": 1, "columnField": "config.script", "operatorValue": "contains", "value": value});
        assert!(found(json!({"items": [item("vis")]})) && !found(json!({"items": [item("x")]})));
        let both = [item("vis"), item("x")];
        assert!(found(json!({"items": both, "linkOperator": "or"})));
        assert!(!found(json!({"items": both, "linkOperator": "and"})));
        // Where both are there the newer ones count.
        assert!(!found(json!({"items": both, "logicOperator": "and", "linkOperator": "or"})));
        let mixed =
            json!({"field": "config.script", "columnField": "x", "operator": null, "operatorValue": "isNotEmpty"});
        assert!(found(json!({"items": [mixed]})));
        let panel = json!({"columnField": "formFields", "keyPairs": [{"keyPair": "crc", "valuePair": "zz"}]});
        assert!(!found(json!({"items": [panel]})));
        assert!(parse(&json!({"filterModel": {"items": [{"columnField": "f"}]}})).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let item = |operator: Value, value: Value| json!({"filterModel": {"items": [{"field": "f", "operator": operator, "value": value}]}});
        for body in [
            json!(5),
            json!({"filterModel": []}),
            json!({"filterModel": {"items": {}}}),
            json!({"filterModel": {"items": [5]}}),
            json!({"filterModel": {"items": [{"field": 5, "operator": "contains"}]}}),
            json!({"filterModel": {"items": [{"field": "f"}]}}),
            json!({"filterModel": {"items": [], "logicOperator": "xor"}}),
            item(json!("like"), json!("x")),
            item(json!(5), json!("x")),
            item(json!("contains"), json!({"a": 1})),
            item(json!("isAnyOf"), json!([["a"]])),
            item(json!(">"), json!("x")),
            item(json!(">"), json!(true)),
            item(json!("="), json!("inf")),
            item(json!("after"), json!("x")),
            item(json!("after"), json!(2023)),
            json!({"sortModel": [{"field": "a", "sort": "up"}]}),
            json!({"sortModel": ["a"]}),
            json!({"page": -1}),
            json!({"page": 1.5}),
            json!({"pageSize": "ten"}),
        ] {
            assert!(parse(&body).is_err(), "{body}");
        }
    }

    #[test]
    fn pages_are_capped() {
        let (query, page) = parse(&json!({"page": 2, "pageSize": 1_000_000})).expect("a filter");
        assert_eq!((query.offset, query.limit), (2 * MAX_PAGE_SIZE, MAX_PAGE_SIZE));
        assert_eq!((page.page, page.page_size), (2, MAX_PAGE_SIZE));
        assert_eq!(parse(&json!({"page": u64::MAX})).expect("a filter").0.offset, usize::MAX);
    }
}
