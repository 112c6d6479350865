//! What only a database has: several volumes in it, several processes on it, and annotations.

use super::*;
use shared::annotation::{Annotation, Draft, Revision};
use shared::product::Product;
use shared::store::Lookup;
use shared::uid;
use std::collections::BTreeSet;
use uuid::Uuid;

#[tokio::test]
async fn volumes_in_one_database_do_not_see_each_other() {
    let home = Home::new();
    let (one, other) = (home.indexer("one").await, home.indexer("other").await);
    let (api_of_one, api_of_other) = (home.api("one"), home.api("other"));
    let product = |own: &str| guarded("eb-1", "staff", own, own);
    for (store, own) in [(&one, "of one"), (&other, "of other")] {
        apply(store, [write("a", &product(own)), write(own, &product(own)), measured("a", own.len() as u64)]).await;
        apply(store, [failing("a", own), failing(&format!("{own}/x"), own)]).await;
        store
            .ingest(Product::from_metadata(product(own), "vol").expect("a product"), &Viewer::unrestricted())
            .await
            .expect("ingested");
    }
    let uid = uid::on_volume("eb-1", "/v", &at("a"));
    one.annotations().expect("annotations").create(&draft(uid, "a remark", "me")).await.expect("created");
    let id = annotations(&one, uid).await[0].annotation_id;
    for (store, own, foreign) in [
        (&one, "of one", "of other"),
        (&api_of_one, "of one", "of other"),
        (&other, "of other", "of one"),
        (&api_of_other, "of other", "of one"),
    ] {
        let mut found = find(store, everything(), &staff()).await;
        found.sort();
        assert_eq!(found, ["None", "a", own]);
        assert_eq!(find(store, item(foreign, "isNotEmpty", ""), &staff()).await, [""; 0]);
        assert_eq!(find(store, item(own, "equals", foreign), &staff()).await, [""; 0]);
        let quick = |word: &str| query(&json!({"filterModel": {"quickFilterValues": [word]}}));
        assert_eq!(find(store, quick(foreign), &staff()).await, [""; 0]);
        assert_eq!(find(store, quick(own), &staff()).await.len(), 3);
        let sorted = json!({"sortModel": [{"field": foreign, "sort": "asc"}, {"field": "size", "sort": "asc"}]});
        assert_eq!(find(store, query(&sorted), &staff()).await[0], "a");
        let keys = store.keys(&staff()).await.expect("keys");
        assert_eq!(keys.counts.keys().collect::<Vec<_>>(), ["context.access_group", own]);
        assert_eq!(keys.counts[own].values, 3);
        assert!(store.keys(&Viewer::anonymous()).await.expect("keys").counts.is_empty());
        assert_eq!(folders(&store.products_of("eb-1", &staff()).await.expect("products")), ["a", own, "None"]);
        let below = visible_below(store, &Folder::root(), &staff()).await;
        assert_eq!(below, [at("a"), at(own)]);
        let Lookup::Found(hit) = store.product(uid, &staff()).await.expect("an answer") else { panic!("it is gone") };
        assert_eq!((hit.product.metadata.contains_key(own), hit.size), (true, Some(own.len() as u64)));
        let known: BTreeSet<Folder> = store.known(&Folder::root()).await.expect("what is known").into_keys().collect();
        assert_eq!(known, [at("a"), at(own), at(&format!("{own}/x"))].into());
        let summary = store.summary(&staff(), 9).await.expect("a summary");
        assert_eq!((summary.products, summary.products_on_volume, summary.failing), (3, 2, 1));
        assert!(summary.first_failing.iter().all(|failing| failing.error == own));
        let coordination = summary.coordination.expect("several share it");
        assert_eq!(format!("of {}", coordination.volume_prefix.trim_start_matches("dpd_")), own);
        assert!(coordination.indexer_alive);
        let annotated = usize::from(own == "of one");
        assert_eq!(annotations(store, uid).await.len(), annotated);
        assert_eq!(find(store, item("annotation", "contains", "remark"), &staff()).await.len(), annotated);
    }
    let revised = other.annotations().expect("annotations").update(id, &draft(uid, "another", "me")).await;
    assert_eq!(revised, Ok(Revision::Unknown));
    apply(&one, [gone("a"), gone("of one"), gone("of one/x"), gone("of other")]).await;
    assert_eq!(find(&one, everything(), &staff()).await, ["None"]);
    assert_eq!(find(&api_of_other, everything(), &staff()).await.len(), 3);
    assert_eq!(api_of_other.summary(&staff(), 9).await.expect("a summary").failing, 1);
}

#[tokio::test]
async fn what_is_written_is_to_be_measured() {
    let home = Home::new();
    let store = home.indexer("volume").await;
    let unmeasured = async || {
        let mut folders = store.unmeasured().await.expect("folders");
        folders.sort();
        folders.iter().map(|folder| folder.as_str().to_owned()).collect::<Vec<_>>()
    };
    let all = ["", "a", "a/b", "a/b/c", "d"];
    apply(&store, all.map(|folder| write(folder, &metadata("eb-1", "k", 1)))).await;
    assert_eq!(unmeasured().await, all);
    apply(&store, all.map(|folder| measured(folder, 7))).await;
    assert_eq!(unmeasured().await, [""; 0]);
    // Other metadata, and the same in another file: what is beside it may be another. What was known stays shown.
    apply(&store, [write("d", &metadata("eb-1", "k", 2))]).await;
    apply(&store, [Change::Found(found(&at("a"), &metadata("eb-1", "k", 1), 2))]).await;
    assert_eq!(unmeasured().await, ["a", "d"]);
    assert_eq!(find(&store, item("size", "=", 7), &staff()).await.len(), 5);
    apply(&store, all.map(|folder| measured(folder, 7))).await;
    // A size counts nothing of other products in its folder.
    apply(&store, [write("a/b/new", &metadata("eb-1", "k", 1))]).await;
    assert_eq!(unmeasured().await, ["", "a", "a/b", "a/b/new"]);
    apply(&store, ["", "a", "a/b", "a/b/new"].map(|folder| measured(folder, 6))).await;
    apply(&store, [gone("a/b/c"), gone("a/none")]).await;
    assert_eq!(unmeasured().await, ["", "a", "a/b"]);
}

#[tokio::test]
async fn a_reindex_is_wanted_of_one_volume() {
    let home = Home::new();
    let (one, other) = (home.indexer("one").await, home.indexer("other").await);
    assert_eq!(home.api("other").request_reindex().await, Ok(shared::store::Reindex::Accepted));
    other.reindex_requested().await;
    assert_eq!(home.server_side.value("SELECT count(*) FROM reindex_request"), 1);
    one.publish(shared::status::Indexing { in_progress: true, ..Default::default() }).await.expect("published");
    let waits = async |volume: &str| {
        let summary = home.api(volume).summary(&staff(), 0).await.expect("a summary");
        summary.coordination.expect("several share it").reindex_waits
    };
    assert!(!waits("one").await && waits("other").await);
}

#[tokio::test]
async fn sizes_that_were_never_looked_for_are_known() {
    let home = Home::new();
    let store = home.indexer("volume").await;
    let unmeasured = async || -> BTreeSet<String> {
        let folders = store.unmeasured().await.expect("folders");
        folders.iter().map(|folder| folder.as_str().to_owned()).collect()
    };
    let of = |folders: &[&str]| folders.iter().map(|folder| (*folder).to_owned()).collect::<BTreeSet<_>>();
    let good = metadata("eb-1", "k", 1);
    store
        .ingest(Product::from_metadata(good.clone(), "vol").expect("a product"), &Viewer::unrestricted())
        .await
        .expect("ingested");
    apply(&store, ["", "a", "b", "c"].map(|folder| write(folder, &good))).await;
    assert_eq!(unmeasured().await, of(&["", "a", "b", "c"]));
    apply(&store, [measured("a", 1), measured("b", None), gone("c"), failing("d", "no")]).await;
    assert_eq!(unmeasured().await, of(&[""]));
    let other = metadata("eb-2", "k", 2);
    apply(&store, [write("a", &other), write("b", &other), write("", &other), write("c", &other)]).await;
    assert_eq!(unmeasured().await, of(&["", "a", "b", "c"]), "what is beside another file may be another");
}

#[tokio::test]
async fn an_api_does_not_undo_what_the_indexer_read_later() {
    let home = Home::new();
    let (indexer, api) = (home.indexer("volume").await, home.api("volume"));
    let version = |n: i64| Change::Found(found(&at("a"), &metadata("eb-1", "k", n), n));
    apply(&indexer, [version(2)]).await;
    assert_eq!(apply(&api, [version(1)]).await, [Outcome::Unchanged]);
    assert_eq!(apply(&api, [version(3)]).await, [Outcome::Updated]);
    assert_eq!(find(&indexer, item("k", "=", 3), &staff()).await, ["a"]);
    // The indexer knows best, also where a clock went back.
    assert_eq!(apply(&indexer, [version(1)]).await, [Outcome::Updated]);
    assert_eq!(find(&api, item("k", "=", 1), &staff()).await, ["a"]);
    assert_eq!(apply(&home.api("volume"), [measured("a", 5)]).await, [Outcome::Updated]);
    assert_eq!(find(&indexer, item("size", "=", 5), &staff()).await, ["a"]);
    assert_eq!(apply(&api, [gone("a")]).await, [Outcome::Removed]);
    assert!(indexer.known(&Folder::root()).await.expect("what is known").is_empty());
}

fn draft(product: Uuid, text: &str, author: &str) -> Draft {
    Draft { product, text: text.to_owned(), author: author.to_owned() }
}

async fn annotations(store: &dyn Store, product: Uuid) -> Vec<Annotation> {
    store.annotations().expect("annotations").list(product, None).await.expect("a list").annotations
}

async fn texts(store: &dyn Store, product: Uuid) -> Vec<String> {
    annotations(store, product).await.into_iter().map(|annotation| annotation.annotation_text).collect()
}

#[tokio::test]
async fn annotations_are_listed_and_changed_by_their_authors() {
    let home = Home::new();
    let (indexer, api) = (home.indexer("volume").await, home.api("volume"));
    let kept = api.annotations().expect("annotations");
    apply(&indexer, [write("a", &metadata("eb-1", "k", 1)), write("b", &metadata("eb-1", "k", 1))]).await;
    let [a, b] = ["a", "b"].map(|folder| uid::on_volume("eb-1", "/v", &at(folder)));
    assert_eq!(annotations(&api, a).await, []);
    let written = ["first", "'; DROP TABLE annotation; --", "Straße\\ \"𝄞\" %_", "2024-01-01"];
    for (n, text) in written.iter().enumerate() {
        let before = api.summary(&staff(), 0).await.expect("a summary").updated;
        kept.create(&draft(a, text, &format!("author '{n}'"))).await.expect("created");
        assert!(api.summary(&staff(), 0).await.expect("a summary").updated > before, "a search may find it");
    }
    kept.create(&draft(b, "of b", "me")).await.expect("created");
    assert_eq!(texts(&api, a).await, written);
    assert_eq!(texts(&api, b).await, ["of b"]);

    let first = annotations(&api, a).await.remove(0);
    assert_eq!((first.data_product_uid, first.user_principal_name.as_str()), (a, "author '0'"));
    assert_eq!(first.timestamp_created, first.timestamp_modified);
    let before = api.summary(&staff(), 0).await.expect("a summary").updated;
    for (id, product, author, expected) in [
        (first.annotation_id, a, "author '1'", Revision::NotTheAuthor),
        (first.annotation_id, a, "", Revision::NotTheAuthor),
        (first.annotation_id, b, "author '0'", Revision::Unknown),
        (first.annotation_id + 1000, a, "author '0'", Revision::Unknown),
        (i64::MIN, a, "author '0'", Revision::Unknown),
    ] {
        assert_eq!(kept.update(id, &draft(product, "no", author)).await, Ok(expected));
    }
    assert_eq!(annotations(&api, a).await[0], first);
    assert_eq!(api.summary(&staff(), 0).await.expect("a summary").updated, before);
    let revised = kept.update(first.annotation_id, &draft(a, "revised", "author '0'")).await;
    assert_eq!(revised, Ok(Revision::Done));
    assert_eq!(texts(&api, a).await, ["revised", written[1], written[2], written[3]], "in the order of their making");
    let now = annotations(&api, a).await.remove(0);
    assert!(now.timestamp_modified > first.timestamp_modified && now.timestamp_created == first.timestamp_created);
}

#[tokio::test]
async fn an_annotation_that_nobody_changed_was_last_changed_when_it_was_made() {
    let home = Home::new();
    let (_indexer, api) = (home.indexer("volume").await, home.api("volume"));
    let product = uid::on_volume("eb-1", "/v", &at("a"));
    for _ in 0..300 {
        api.annotations().expect("annotations").create(&draft(product, "text", "me")).await.expect("created");
    }
    for annotation in annotations(&api, product).await {
        assert_eq!(annotation.timestamp_created, annotation.timestamp_modified);
    }
}

#[tokio::test]
async fn products_are_found_by_their_annotations() {
    let home = Home::new();
    let (indexer, api) = (home.indexer("volume").await, home.api("volume"));
    let kept = api.annotations().expect("annotations");
    let folders = ["a", "b", "c", "secret"];
    let [a, b, _, secret] = folders.map(|folder| uid::on_volume("eb-1", "/v", &at(folder)));
    let own = metadata("eb-1", "annotation", "in the metadata");
    let plain = metadata("eb-1", "k", 1);
    let products =
        [write("a", &plain), write("b", &plain), write("c", &own), write("secret", &guarded("eb-1", "staff", "k", 1))];
    apply(&indexer, products).await;
    for (product, text) in [(a, "Straße FREI"), (a, "2024-02-29T10:00:00Z"), (b, "42"), (secret, "Straße")] {
        kept.create(&draft(product, text, "me")).await.expect("created");
    }
    for (operator, value, expected) in [
        ("contains", json!("STRASSE"), &[][..]),
        ("contains", json!("straße"), &["a", "secret"]),
        ("doesNotContain", json!("straße"), &["b", "c"]),
        ("equals", json!("straße frei"), &["a"]),
        ("startsWith", json!("Straße"), &["a", "secret"]),
        ("endsWith", json!("frei"), &["a"]),
        ("isAnyOf", json!(["42", "straße"]), &["b", "secret"]),
        ("isEmpty", json!(null), &[]),
        ("isNotEmpty", json!(null), &["a", "b", "c", "secret"]),
        ("equals", json!("IN the metadata"), &["c"]),
        ("is", json!("2024-02-29"), &["a"]),
        ("before", json!("2024-02-29"), &[]),
        // It is a text.
        ("=", json!(42), &[]),
        ("equals", json!(42.0), &[]),
        ("equals", json!(42), &["b"]),
    ] {
        let query = item("annotation", operator, value.clone());
        let mut found = find(&api, query.clone(), &staff()).await;
        found.sort();
        assert_eq!(found, expected, "{operator} {value}");
        let mut public = find(&indexer, query, &Viewer::anonymous()).await;
        public.sort();
        let expected: Vec<&str> = expected.iter().copied().filter(|folder| *folder != "secret").collect();
        assert_eq!(public, expected, "{operator} {value}");
    }
    let pair = json!({"start_date": "1900-01-01", "key_value_pairs": ["annotation:frei"]});
    let pair = shared::filter::pairs::parse(&pair, "%Y-%m-%d", 9).expect("a search");
    assert_eq!(find(&api, pair, &staff()).await, ["a"]);
    let revised = annotations(&api, b).await[0].annotation_id;
    kept.update(revised, &draft(b, "Gesperrt", "me")).await.expect("revised");
    assert_eq!(find(&api, item("annotation", "equals", "gesperrt"), &staff()).await, ["b"]);
    assert_eq!(find(&api, item("annotation", "equals", "42"), &staff()).await, [""; 0]);
    assert_eq!(api.keys(&staff()).await.expect("keys").counts["annotation"].values, 1, "only of metadata");
}

#[tokio::test]
async fn annotations_outlive_the_absence_of_their_product() {
    let home = Home::new();
    let store = home.indexer("volume").await;
    let plain = metadata("eb-1", "k", 1);
    let product = uid::on_volume("eb-1", "/v", &at("a"));
    apply(&store, [write("a", &plain)]).await;
    store.annotations().expect("annotations").create(&draft(product, "it was here", "me")).await.expect("created");
    for away in [gone("a"), write("a", &metadata("eb-2", "k", 1))] {
        apply(&store, [away]).await;
        assert_eq!(find(&store, item("annotation", "isNotEmpty", ""), &staff()).await, [""; 0]);
        assert_eq!(texts(&store, product).await, ["it was here"]);
        apply(&store, [write("a", &plain)]).await;
        assert_eq!(find(&store, item("annotation", "contains", "HERE"), &staff()).await, ["a"]);
    }
}
