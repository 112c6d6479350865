//! What is searched for: each kind of filter so that few products match, and so that about half of them do, as
//! [`crate::metadata`] has it. Repeated requests differ where that is possible, so that no answer is one that was kept.

use serde_json::{Value, json};

/// A filter in both measures.
pub(crate) struct Search {
    pub(crate) name: &'static str,
    /// At most one product in a hundred matches.
    pub(crate) few: Option<Asked>,
    /// About half of them match, or more.
    pub(crate) half: Option<Asked>,
    /// Whether it is asked by a member of a group.
    pub(crate) member: bool,
}

/// The items of a grid's filter, and what the service before asked PostgreSQL for the same.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) body: fn(usize) -> Value,
    /// A condition on `metadata` and `date_created`.
    pub(crate) plain: Option<&'static str>,
}

const fn asked(body: fn(usize) -> Value, plain: &'static str) -> Option<Asked> {
    Some(Asked { body, plain: Some(plain) })
}

const fn not_before(body: fn(usize) -> Value) -> Option<Asked> {
    Some(Asked { body, plain: None })
}

const fn search(name: &'static str, few: Option<Asked>, half: Option<Asked>) -> Search {
    Search { name, few, half, member: false }
}

/// Those that the table of targets names.
pub(crate) const SEARCHES: [Search; 13] = [
    search(
        "date range",
        asked(
            |n| between("date_created", "onOrAfter", &month(n, 1), "onOrBefore", &month(n, 25)),
            "date_created BETWEEN '2023-05-01' AND '2023-05-25'",
        ),
        asked(
            |n| {
                let (from, to) = (format!("2019-0{}-01", 1 + n % 6), format!("2022-{:02}-01", 7 + n % 6));
                between("date_created", "onOrAfter", &from, "onOrBefore", &to)
            },
            "date_created BETWEEN '2019-03-01' AND '2022-09-01'",
        ),
    ),
    search(
        "execution block contains",
        asked(
            |n| one("execution_block", "contains", &format!("{}77", 1 + n % 9)),
            "metadata->>'execution_block' ILIKE '%777%'",
        ),
        asked(|_| one("execution_block", "contains", "eb-m0"), "metadata->>'execution_block' ILIKE '%eb-m0%'"),
    ),
    search(
        "`config.*` or `context.*` equals",
        asked(|n| one("context.observer", "equals", &rare(n)), "metadata->'context'->>'observer' ILIKE 'observer_42'"),
        asked(
            |_| one("config.processing_script", "equals", "vis-receive"),
            "metadata->'config'->>'processing_script' ILIKE 'vis-receive'",
        ),
    ),
    search(
        "`config.*` or `context.*` contains, few values",
        asked(
            |n| one("context.notes", "contains", ["thunderstorm", "Stopped by", "a thunder"][n % 3]),
            "metadata->'context'->>'notes' ILIKE '%thunderstorm%'",
        ),
        asked(
            |n| one("context.notes", "contains", ["as planned", "went as", "Everything"][n % 3]),
            "metadata->'context'->>'notes' ILIKE '%as planned%'",
        ),
    ),
    search(
        "`config.*` or `context.*` contains, a value for each product",
        asked(
            |n| one("config.processing_block", "contains", &format!("{}77", 1 + n % 9)),
            "metadata->'config'->>'processing_block' ILIKE '%777%'",
        ),
        asked(
            |_| one("config.processing_block", "contains", "pb-m0"),
            "metadata->'config'->>'processing_block' ILIKE '%pb-m0%'",
        ),
    ),
    search(
        "`config.*` or `context.*` isAnyOf",
        asked(
            |n| item("context.observer", "isAnyOf", json!([rare(n), rare(n + 7)])),
            "metadata->'context'->>'observer' ILIKE ANY (ARRAY['observer_42', 'observer_35'])",
        ),
        asked(
            |_| item("context.observer", "isAnyOf", (0..5).map(|n| format!("observer_{n}")).collect()),
            "metadata->'context'->>'observer' ILIKE ANY (ARRAY['observer_0', 'observer_1', 'observer_2', 'observer_3', \
             'observer_4'])",
        ),
    ),
    search(
        "numeric `obscore.*` =",
        asked(|_| one("obscore.calib_level", "=", "4"), "(metadata->'obscore'->>'calib_level')::float8 = 4"),
        asked(|_| one("obscore.calib_level", "=", "1"), "(metadata->'obscore'->>'calib_level')::float8 = 1"),
    ),
    search(
        "numeric `obscore.*` range",
        asked(
            |n| between("obscore.s_ra", ">=", &(n * 5).to_string(), "<", &format!("{}.5", n * 5 + 3)),
            "(metadata->'obscore'->>'s_ra')::float8 BETWEEN 100 AND 103.5",
        ),
        asked(
            |n| one("obscore.s_ra", "<", &format!("{}.{n}", 180 + n % 7)),
            "(metadata->'obscore'->>'s_ra')::float8 < 184",
        ),
    ),
    search(
        "store",
        not_before(|_| one("metadata_store_name", "equals", "DLM")),
        not_before(|_| one("metadata_store_name", "equals", crate::VOLUME_NAME)),
    ),
    Search {
        member: true,
        ..search(
            "access group",
            asked(
                |_| one("context.access_group", "equals", "staff"),
                "metadata->'context'->>'access_group' ILIKE 'staff'",
            ),
            asked(
                |_| json!([{"field": "context.access_group", "operator": "isEmpty"}]),
                "metadata->'context'->>'access_group' IS NULL",
            ),
        )
    },
    search(
        "annotation contains",
        not_before(|n| one("annotation", "contains", &format!("near {} MHz", 100 + n % 7))),
        None,
    ),
    search(
        "`key_value_pairs`",
        asked(|n| pairs(&[("observer", &rare(n))]), "metadata->'context'->>'observer' ILIKE '%observer_42%'"),
        asked(
            |_| pairs(&[("processing_script", "vis-receive")]),
            "metadata->'config'->>'processing_script' ILIKE '%vis-receive%'",
        ),
    ),
    search(
        "two `key_value_pairs`",
        not_before(|n| pairs(&[("processing_script", "vis"), ("notes", ["thunder", "storm"][n % 2])])),
        not_before(|_| pairs(&[("processing_script", "receive"), ("interface", "ska-data-product-meta")])),
    ),
];

/// Two of them joined, and how.
pub(crate) const JOINED: [(&str, Search); 2] = [
    (
        "and",
        search(
            "two filters joined by *and*",
            asked(
                |n| both(one("context.observer", "equals", &rare(n)), one("obscore.s_ra", "<", "184")),
                "metadata->'context'->>'observer' ILIKE 'observer_42' AND (metadata->'obscore'->>'s_ra')::float8 < 184",
            ),
            asked(
                |n| {
                    both(
                        one("config.processing_script", "equals", "vis-receive"),
                        one("obscore.s_ra", ">", &n.to_string()),
                    )
                },
                "metadata->'config'->>'processing_script' ILIKE 'vis-receive' AND \
                 (metadata->'obscore'->>'s_ra')::float8 > 3",
            ),
        ),
    ),
    (
        "or",
        search(
            "two filters joined by *or*",
            asked(
                |n| both(one("context.observer", "equals", &rare(n)), one("context.notes", "contains", "thunderstorm")),
                "metadata->'context'->>'observer' ILIKE 'observer_42' OR metadata->'context'->>'notes' ILIKE \
                 '%thunderstorm%'",
            ),
            asked(
                |n| {
                    both(
                        one("config.processing_script", "equals", "pointing-offset"),
                        one("obscore.s_ra", "<", &format!("13{}", n % 9)),
                    )
                },
                "metadata->'config'->>'processing_script' ILIKE 'pointing-offset' OR \
                 (metadata->'obscore'->>'s_ra')::float8 < 133",
            ),
        ),
    ),
];

/// Keys that nobody foresaw.
pub(crate) const UNFORESEEN: [Search; 4] = [
    search(
        "unforeseen key, text in an array of objects",
        asked(
            |n| one("quality.flagging.antennas.name", "equals", &format!("C{:03}", 100 + n)),
            "EXISTS (SELECT FROM jsonb_array_elements(metadata->'quality'->'flagging'->'antennas') a WHERE a->>'name' \
             ILIKE 'C142')",
        ),
        None,
    ),
    search(
        "unforeseen key, number at depth",
        asked(
            |n| one("quality.solver.iterations", ">", &(100 + n % 50).to_string()),
            "(metadata->'quality'->'solver'->>'iterations')::float8 > 100",
        ),
        None,
    ),
    search(
        "unforeseen key that one product in 15,000 has",
        not_before(|n| one(&format!("team_{}.stage.remark", n % 300), "contains", "looked")),
        None,
    ),
    search(
        "checksum of a file, in an array",
        asked(
            |_| one("files.crc", "equals", "deadbeef"),
            "EXISTS (SELECT FROM jsonb_array_elements(metadata->'files') f WHERE f->>'crc' ILIKE 'deadbeef')",
        ),
        not_before(|n| one("files.crc", "contains", &format!("{:x}", n % 16))),
    ),
];

/// The page that the grid asks for, in an order or in the default one.
pub(crate) fn page(items: &Value, logic: &str, sort: Option<(&str, &str)>) -> Value {
    let mut body = json!({"page": 0, "pageSize": 25});
    // Pairs come from another place of the dashboard.
    let panel = items[0]["field"] == "formFields";
    body[if panel { "searchPanelOptions" } else { "filterModel" }] = json!({"items": items, "logicOperator": logic});
    if let Some((field, direction)) = sort {
        body["sortModel"] = json!([{"field": field, "sort": direction}]);
    }
    body
}

fn item(field: &str, operator: &str, value: Value) -> Value {
    json!([{"field": field, "operator": operator, "value": value}])
}

fn one(field: &str, operator: &str, value: &str) -> Value {
    item(field, operator, json!(value))
}

fn between(field: &str, from: &str, low: &str, to: &str, high: &str) -> Value {
    both(one(field, from, low), one(field, to, high))
}

fn both(one: Value, other: Value) -> Value {
    json!([one[0], other[0]])
}

fn pairs(pairs: &[(&str, &str)]) -> Value {
    let pairs: Vec<Value> = pairs.iter().map(|(key, value)| json!({"keyPair": key, "valuePair": value})).collect();
    json!([{"field": "formFields", "keyPairs": pairs}])
}

/// An observer of one product in 250.
fn rare(n: usize) -> String {
    format!("observer_{}", 25 + n % 25)
}

/// A day of a month of the seven years, another month each time.
fn month(n: usize, day: usize) -> String {
    format!("20{}-{:02}-{day:02}", 19 + n / 12 % 7, 1 + n % 12)
}
