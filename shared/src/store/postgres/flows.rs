//! Flows in the database, and what products show of them.
//!
//! Which products a flow is matched to is kept (`flow_product`), so that a change finds what it touches by indexes. After
//! each round of changes the flows that may be touched are matched anew ([`choose`] says how), the products whose flows
//! became others are written so, and flows without a product get their placeholders.

use super::dictionary;
use super::plan::{Derived, Plan, Put};
use super::text::{escaped, unescaped};
use super::write::Writer;
use crate::access::Access;
use crate::flow::{self, FLOWS, Flow, FlowId, FlowState, STATUS, choose};
use crate::folder::Folder;
use crate::product::Product;
use crate::store::Result;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// What a [`flow()`] is read from.
const FLOW: &str = "SELECT f.id, f.name, f.status, f.execution_block, \
                    ARRAY(SELECT d.folder FROM flow_folder d WHERE d.flow = f.id ORDER BY d.place) AS folders FROM flow f";

/// The keys that products have by flows, and those of placeholders.
pub(super) fn keys() -> BTreeSet<String> {
    let sample = Flow {
        id: FlowId::stored(String::new()),
        folders: Vec::new(),
        status: None,
        execution_block: Some("eb".to_owned()),
    };
    let placeholder = sample.placeholder();
    let derived = Derived::from(&placeholder);
    derived.all_keys().chain([FLOWS, STATUS]).map(str::to_owned).collect()
}

/// The flows of a volume, all or those of these names.
pub(super) async fn stored(
    connection: &mut PgConnection,
    prefix: &str,
    names: Option<&[&str]>,
) -> Result<BTreeMap<FlowId, Flow>> {
    let rows = match names {
        Some([]) => Vec::new(),
        Some(names) => {
            let sql = sqlx::AssertSqlSafe(format!("{FLOW} WHERE f.volume_prefix = $1 AND f.name = ANY($2)"));
            sqlx::query(sql).bind(prefix).bind(names).fetch_all(connection).await?
        }
        None => {
            let sql = sqlx::AssertSqlSafe(format!("{FLOW} WHERE f.volume_prefix = $1"));
            sqlx::query(sql).bind(prefix).fetch_all(connection).await?
        }
    };
    rows.iter().map(|row| flow(row).map(|flow| (flow.id.clone(), flow))).collect()
}

fn flow(row: &PgRow) -> Result<Flow> {
    let text = |column: &str| row.try_get::<Option<&str>, _>(column).map(|text| text.map(unescaped));
    let folders: Vec<String> = row.try_get("folders")?;
    Ok(Flow {
        id: FlowId::stored(row.try_get("name")?),
        folders: folders.iter().filter_map(|folder| folder.parse().ok()).collect(),
        status: text("status")?,
        execution_block: text("execution_block")?,
    })
}

/// What a round of changes may have touched.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Flows that are to be matched anew.
    flows: BTreeSet<i64>,
    /// Products whose flows are to be shown anew.
    products: BTreeSet<i64>,
}

impl Writer<'_> {
    /// The flows of products that are about to go.
    pub(super) async fn touched_by_removal(&mut self, products: &[i64]) -> Result<Touched> {
        let mut touched = Touched::default();
        if self.author.flows && !products.is_empty() {
            touched.flows.extend(self.linked("product", products).await?.iter().map(|(flow, _)| *flow));
        }
        Ok(touched)
    }

    /// The flows and products of links, by one end of these.
    async fn linked(&mut self, by: &'static str, ids: &[i64]) -> Result<Vec<(i64, i64)>> {
        let sql = format!("SELECT flow, product FROM flow_product WHERE {by} = ANY($1)");
        Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(ids).fetch_all(&mut *self.connection).await?)
    }

    /// Writes the flows of a round, and sees to it that everything shows what it must after it.
    pub(super) async fn follow(&mut self, plan: &Plan<'_>, put: &[i64], mut touched: Touched) -> Result<()> {
        self.remove_flows(&plan.flows_gone, &mut touched).await?;
        self.put_flows(&plan.flows, &mut touched).await?;
        self.author.flows |= !plan.flows.is_empty();
        if !self.author.flows {
            return Ok(());
        }
        self.touched_by_put(&plan.puts, put, &mut touched).await?;
        let flows: Vec<i64> = touched.flows.iter().copied().collect();
        if flows.is_empty() {
            return self.show(touched.products.into_iter().collect()).await;
        }
        let unmatched = self.match_anew(&flows, &mut touched.products).await?;
        self.show(touched.products.into_iter().collect()).await?;
        self.place(&flows, &unmatched).await
    }

    async fn remove_flows(&mut self, flows: &[&FlowId], touched: &mut Touched) -> Result<()> {
        if flows.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = flows.iter().map(|id| id.as_str()).collect();
        let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM flow WHERE volume_prefix = $1 AND name = ANY($2)")
            .bind(self.prefix)
            .bind(&names)
            .fetch_all(&mut *self.connection)
            .await?;
        touched.products.extend(self.linked("flow", &ids).await?.iter().map(|(_, product)| *product));
        sqlx::query("DELETE FROM flow WHERE id = ANY($1)").bind(&ids).execute(&mut *self.connection).await?;
        self.remove_placeholders(&names).await
    }

    async fn remove_placeholders(&mut self, flows: &[&str]) -> Result<()> {
        if flows.is_empty() {
            return Ok(());
        }
        let uids: Vec<Uuid> = flows.iter().map(|name| crate::uid::of_flow(name)).collect();
        let placeholders: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM data_product WHERE volume_prefix = $1 AND uid = ANY($2) AND store_name = $3",
        )
        .bind(self.prefix)
        .bind(&uids)
        .bind(flow::STORE)
        .fetch_all(&mut *self.connection)
        .await?;
        self.remove(&placeholders).await
    }

    async fn put_flows(&mut self, flows: &[&Flow], touched: &mut Touched) -> Result<()> {
        if flows.is_empty() {
            return Ok(());
        }
        let ids: Vec<(String, i64)> = sqlx::query_as(
            "INSERT INTO flow (volume_prefix, name, processing_block, status, execution_block) SELECT $1, n.* FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) n \
             ON CONFLICT (volume_prefix, name) DO UPDATE SET status = EXCLUDED.status, \
             execution_block = EXCLUDED.execution_block RETURNING name, id",
        )
        .bind(self.prefix)
        .bind(flows.iter().map(|flow| flow.id.as_str()).collect::<Vec<_>>())
        .bind(flows.iter().map(|flow| flow.id.processing_block()).collect::<Vec<_>>())
        .bind(flows.iter().map(|flow| flow.status.as_deref().map(escaped)).collect::<Vec<_>>())
        .bind(flows.iter().map(|flow| flow.execution_block.as_deref().map(escaped)).collect::<Vec<_>>())
        .fetch_all(&mut *self.connection)
        .await?;
        let ids: HashMap<String, i64> = ids.into_iter().collect();
        touched.flows.extend(ids.values());
        let (mut of, mut places, mut folders): (Vec<i64>, Vec<i32>, Vec<&str>) = Default::default();
        for flow in flows {
            for (place, folder) in (0i32..).zip(&flow.folders) {
                of.extend(ids.get(flow.id.as_str()));
                places.push(place);
                folders.push(folder.as_str());
            }
        }
        sqlx::query("DELETE FROM flow_folder WHERE flow = ANY($1)")
            .bind(ids.into_values().collect::<Vec<_>>())
            .execute(&mut *self.connection)
            .await?;
        sqlx::query(
            "INSERT INTO flow_folder (volume_prefix, flow, place, folder) \
             SELECT $1, n.* FROM unnest($2::bigint[], $3::integer[], $4::text[]) n",
        )
        .bind(self.prefix)
        .bind(of)
        .bind(places)
        .bind(folders)
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Adds what products that were just written may touch: flows that were matched to them, and such as may be.
    async fn touched_by_put(&mut self, puts: &[Put<'_>], ids: &[i64], touched: &mut Touched) -> Result<()> {
        if puts.is_empty() {
            return Ok(());
        }
        let products = || puts.iter().map(|put| put.derived.product);
        let folders: BTreeSet<&str> =
            products().filter_map(|product| product.folder.as_ref()).flat_map(Folder::up).collect();
        let blocks: BTreeSet<&str> = products().filter_map(flow::processing_block).collect();
        let flows: Vec<i64> = sqlx::query_scalar(
            "SELECT flow FROM flow_folder WHERE volume_prefix = $1 AND folder = ANY($2) \
             UNION SELECT id FROM flow WHERE volume_prefix = $1 AND processing_block = ANY($3) \
             UNION SELECT flow FROM flow_product WHERE product = ANY($4)",
        )
        .bind(self.prefix)
        .bind(folders.into_iter().collect::<Vec<_>>())
        .bind(blocks.into_iter().collect::<Vec<_>>())
        .bind(ids)
        .fetch_all(&mut *self.connection)
        .await?;
        touched.flows.extend(flows);
        // Written anew, they show no flows yet.
        touched.products.extend(ids);
        Ok(())
    }

    /// Matches flows to products. Adds the products whose flows may show otherwise now, and answers the flows that have
    /// none.
    async fn match_anew(&mut self, flows: &[i64], shown: &mut BTreeSet<i64>) -> Result<BTreeSet<i64>> {
        let before: BTreeSet<(i64, i64)> = self.linked("flow", flows).await?.into_iter().collect();
        let (mut by_folder, mut by_block) = (self.by_folder(flows).await?, self.by_block(flows).await?);
        let mut after = BTreeSet::new();
        let mut unmatched = BTreeSet::new();
        for flow in flows {
            let folder = by_folder.remove(flow).unwrap_or_default();
            let chosen = choose(folder, || by_block.remove(flow).unwrap_or_default());
            if chosen.is_empty() {
                unmatched.insert(*flow);
            }
            after.extend(chosen.into_iter().map(|product| (*flow, product)));
        }
        // Also where the link stays: the flow may have another status.
        shown.extend(before.union(&after).map(|(_, product)| *product));
        let gone: (Vec<i64>, Vec<i64>) = before.difference(&after).copied().unzip();
        let new: (Vec<i64>, Vec<i64>) = after.difference(&before).copied().unzip();
        for (sql, (flows, products)) in [
            (
                "DELETE FROM flow_product l USING unnest($1::bigint[], $2::bigint[]) n(flow, product) \
                 WHERE l.flow = n.flow AND l.product = n.product",
                gone,
            ),
            ("INSERT INTO flow_product (flow, product) SELECT * FROM unnest($1::bigint[], $2::bigint[])", new),
        ] {
            if !flows.is_empty() {
                sqlx::query(sql).bind(flows).bind(products).execute(&mut *self.connection).await?;
            }
        }
        Ok(unmatched)
    }

    /// The products at and below the folders of flows.
    async fn by_folder(&mut self, flows: &[i64]) -> Result<BTreeMap<i64, BTreeSet<i64>>> {
        let pairs: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT f.flow, p.id FROM flow_folder f JOIN data_product p ON p.volume_prefix = f.volume_prefix \
             AND p.folder = f.folder WHERE f.flow = ANY($1) \
             UNION SELECT f.flow, p.id FROM flow_folder f JOIN data_product p ON p.volume_prefix = f.volume_prefix \
             AND p.folder > f.folder || '/' AND p.folder < f.folder || '0' WHERE f.flow = ANY($1)",
        )
        .bind(flows)
        .fetch_all(&mut *self.connection)
        .await?;
        Ok(grouped(pairs))
    }

    /// The products of the processing blocks of flows.
    async fn by_block(&mut self, flows: &[i64]) -> Result<BTreeMap<i64, BTreeSet<i64>>> {
        let pairs: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT f.id, p.id FROM flow f JOIN data_product p ON p.volume_prefix = f.volume_prefix \
             AND p.processing_block = f.processing_block WHERE f.id = ANY($1)",
        )
        .bind(flows)
        .fetch_all(&mut *self.connection)
        .await?;
        Ok(grouped(pairs))
    }

    /// Writes what products show of their flows, where that became something else.
    async fn show(&mut self, products: Vec<i64>) -> Result<()> {
        if products.is_empty() {
            return Ok(());
        }
        let before: Vec<(i64, i32, Option<String>)> =
            sqlx::query_as("SELECT id, access, flows::text FROM data_product WHERE id = ANY($1)")
                .bind(&products)
                .fetch_all(&mut *self.connection)
                .await?;
        let mut states = self.states(&products).await?;
        let (mut ids, mut texts) = (Vec::new(), Vec::new());
        let mut counts = BTreeMap::new();
        for (id, access, before) in before {
            let states = states.remove(&id).unwrap_or_default();
            let after = shown(&states);
            if before == after {
                continue;
            }
            let status = |states: &[FlowState]| flow::least_finished(states).map(str::to_owned);
            for (key, before, after) in [
                (FLOWS, before.clone(), after.clone()),
                (STATUS, before.as_deref().map(read).and_then(|states| status(&states)), status(&states)),
            ] {
                let number = self.keys.get(key)?;
                let step = i64::from(after.is_some()) - i64::from(before.is_some());
                counts.entry((access, number)).or_insert((0, 0)).0 += step;
            }
            ids.push(id);
            texts.push(after);
        }
        if ids.is_empty() {
            return Ok(());
        }
        self.supersede(&ids).await?;
        self.touch(&ids).await?;
        sqlx::query(
            "UPDATE data_product p SET flows = n.flows::json, number = nextval('product_number') \
             FROM unnest($1::bigint[], $2::text[]) n(id, flows) WHERE p.id = n.id",
        )
        .bind(&ids)
        .bind(&texts)
        .execute(&mut *self.connection)
        .await?;
        self.versions += ids.len();
        self.count_keys(&counts).await
    }

    /// The flows of products, by name.
    async fn states(&mut self, products: &[i64]) -> Result<BTreeMap<i64, Vec<FlowState>>> {
        let rows: Vec<(i64, String, Option<String>)> = sqlx::query_as(
            "SELECT l.product, f.name, f.status FROM flow_product l JOIN flow f ON f.id = l.flow \
             WHERE l.product = ANY($1) ORDER BY f.name",
        )
        .bind(products)
        .fetch_all(&mut *self.connection)
        .await?;
        let mut states: BTreeMap<i64, Vec<FlowState>> = BTreeMap::new();
        for (product, name, status) in rows {
            let status = status.as_deref().map(unescaped);
            states.entry(product).or_default().push(FlowState { flow: FlowId::stored(name), status });
        }
        Ok(states)
    }

    /// Gives flows that are matched to nothing their placeholders, and takes these from the others.
    async fn place(&mut self, flows: &[i64], unmatched: &BTreeSet<i64>) -> Result<()> {
        let sql = sqlx::AssertSqlSafe(format!("{FLOW} WHERE f.id = ANY($1)"));
        let rows = sqlx::query(sql).bind(flows).fetch_all(&mut *self.connection).await?;
        let (mut matched, mut products) = (Vec::new(), Vec::new());
        for row in &rows {
            let flow = flow(row)?;
            if unmatched.contains(&row.try_get::<i64, _>("id")?) {
                products.push(flow.placeholder());
            } else {
                matched.push(flow.id);
            }
        }
        self.remove_placeholders(&matched.iter().map(FlowId::as_str).collect::<Vec<_>>()).await?;
        self.put_placeholders(&products).await
    }

    /// Sees to it that all placeholders are as they must be: an earlier release may have written them.
    pub(super) async fn place_all(&mut self) -> Result<()> {
        let unmatched: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM flow f WHERE volume_prefix = $1 \
             AND NOT EXISTS (SELECT FROM flow_product l WHERE l.flow = f.id)",
        )
        .bind(self.prefix)
        .fetch_all(&mut *self.connection)
        .await?;
        self.place(&unmatched, &unmatched.iter().copied().collect()).await
    }

    /// Writes the placeholders that are not there as they must be.
    async fn put_placeholders(&mut self, products: &[Product]) -> Result<()> {
        if products.is_empty() {
            return Ok(());
        }
        let guard = Access::Flows;
        let rules = dictionary::rule_ids(self.connection, self.prefix, [&guard]).await?;
        let Some(access) = rules.get(&guard).copied() else { return Ok(()) };
        let there: Vec<(Uuid, String, Option<String>, i32)> = sqlx::query_as(
            "SELECT uid, execution_block, flows::text, access FROM data_product \
             WHERE volume_prefix = $1 AND uid = ANY($2)",
        )
        .bind(self.prefix)
        .bind(products.iter().map(|product| product.uid).collect::<Vec<_>>())
        .fetch_all(&mut *self.connection)
        .await?;
        let there: HashMap<Uuid, (String, Option<String>, i32)> =
            there.into_iter().map(|(uid, block, flows, access)| (uid, (block, flows, access))).collect();
        let is_new = |product: &&Product| {
            let own = (escaped(&product.execution_block).into_owned(), shown(&product.flows), access);
            there.get(&product.uid) != Some(&own)
        };
        let derived: Vec<Derived<'_>> = products.iter().filter(is_new).map(Derived::from).collect();
        if derived.is_empty() {
            return Ok(());
        }
        let puts: Vec<Put<'_>> = derived.iter().map(|derived| Put::of_no_file(derived, None, access)).collect();
        self.put(&puts).await.map(drop)
    }
}

/// What the column `flows` has for a product with these; nothing for one with none.
pub(super) fn shown(flows: &[FlowState]) -> Option<String> {
    (!flows.is_empty()).then(|| serde_json::to_value(flows).unwrap_or_default().to_string())
}

/// Reads what [`shown`] wrote.
pub(super) fn read(text: &str) -> Vec<FlowState> {
    serde_json::from_str(text).unwrap_or_default()
}

fn grouped(pairs: Vec<(i64, i64)>) -> BTreeMap<i64, BTreeSet<i64>> {
    let mut groups: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for (flow, product) in pairs {
        groups.entry(flow).or_default().insert(product);
    }
    groups
}
