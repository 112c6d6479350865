//! Walks over real folders: how many readers are at work at once, what is held up by what, and what is left out of a walk
//! since it did not change. Each access to the file system goes through a seam that counts it or holds it up.

use rustix::fs::{XattrFlags, setxattr};
use shared::access::Viewer;
use shared::config::{IndexingSettings, Settings, Variables};
use shared::folder::Folder;
use shared::status::WatchedBy;
use shared::store::memory::MemoryStore;
use shared::store::{Reindex, Store};
use shared::volume::{Access, OnAccess, Volume};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(60);

struct Site {
    dir: TempDir,
    store: Arc<MemoryStore>,
    /// Accesses since the last walk that was waited for.
    accesses: Arc<Mutex<Vec<(Access, String)>>>,
}

fn product(dir: &Path, folder: &str) {
    fs::create_dir_all(dir.join(folder)).expect("a folder");
    let metadata = format!("execution_block: eb-a-20240101-1\nname: {}", folder.replace('/', "-"));
    fs::write(dir.join(folder).join("ska-data-product.yaml"), metadata).expect("a file");
}

fn start<const N: usize>(
    dir: &Path,
    pairs: [(&str, &str); N],
    on_access: OnAccess,
    change: impl FnOnce(&mut IndexingSettings),
) -> Arc<MemoryStore> {
    let mut settings = Settings::read(&Variables::from(pairs), dir.to_str().map(str::to_owned)).expect("settings");
    change(&mut settings.indexing);
    let volume = Arc::new(Volume::new(&settings.volume).behind(on_access));
    let store = Arc::new(MemoryStore::default());
    tokio::spawn(indexer::run(volume, store.clone(), settings.indexing, None, Default::default()));
    store
}

async fn wait_for(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        tokio::task::yield_now().await;
    }
}

async fn folders(store: &MemoryStore) -> Vec<String> {
    let known = store.known(&Folder::root()).await.expect("what is known");
    let mut folders: Vec<String> = known.into_keys().map(|folder| folder.to_string()).collect();
    folders.sort();
    folders
}

/// Lets calls through when so many have come at once, or when nobody believes that they will.
struct Gate {
    wanted: usize,
    inside: Mutex<(usize, usize)>,
    moved: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut inside = self.inside.lock().expect("a lock");
        inside.0 += 1;
        inside.1 = inside.1.max(inside.0);
        self.moved.notify_all();
        let waits = |inside: &mut (usize, usize)| inside.1 < self.wanted;
        let (mut inside, _) = self.moved.wait_timeout_while(inside, PATIENCE, waits).expect("a lock");
        inside.0 -= 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_calls_are_under_way_as_there_are_workers() {
    let dir = tempfile::tempdir().expect("a folder");
    (0..200).for_each(|n| product(dir.path(), &format!("eb-{n}/sdp")));
    for access in [Access::List, Access::Read] {
        let gate = Arc::new(Gate { wanted: 64, inside: Mutex::default(), moved: Condvar::new() });
        let on_access = {
            let gate = gate.clone();
            move |what: Access, path: &str| {
                if what == access && path.starts_with("eb-") {
                    gate.pass();
                }
            }
        };
        let store = start(dir.path(), [("INDEXING_PARALLEL_WORKERS", "64")], Arc::new(on_access), |_| ());
        wait_for("all products", async || folders(&store).await.len() == 200).await;
        assert_eq!(gate.inside.lock().expect("a lock").1, 64, "{access:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_holds_up_nothing_else() {
    let dir = tempfile::tempdir().expect("a folder");
    (0..50).for_each(|n| product(dir.path(), &format!("eb-{n}")));
    product(dir.path(), "hangs/in/reading");
    product(dir.path(), "hanging/listing");
    let held = Arc::new((Mutex::new(true), Condvar::new()));
    let on_access = {
        let held = held.clone();
        move |what: Access, path: &str| {
            let hangs = what == Access::Read && path.starts_with("hangs/") || what == Access::List && path == "hanging";
            if hangs {
                let lock = held.0.lock().expect("a lock");
                drop(held.1.wait_timeout_while(lock, PATIENCE, |held| *held));
            }
        }
    };
    let store = start(dir.path(), [("INDEXING_PARALLEL_WORKERS", "4")], Arc::new(on_access), |_| ());
    wait_for("all others", async || folders(&store).await.len() == 50).await;
    // What arrives meanwhile is found as well.
    product(dir.path(), "late/sdp");
    wait_for("what is late", async || folders(&store).await.len() == 51).await;
    *held.0.lock().expect("a lock") = false;
    held.1.notify_all();
    wait_for("the rest", async || folders(&store).await.len() == 53).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arrival_does_not_wait_for_a_walk() {
    let dir = tempfile::tempdir().expect("a folder");
    (0..300).for_each(|n| product(dir.path(), &format!("eb-{n}")));
    // The walk becomes slow, until what arrived is there.
    let (arrived, walked) = (Arc::new((Mutex::new(false), Condvar::new())), Arc::new(Mutex::new(0)));
    let on_access = {
        let (arrived, walked) = (arrived.clone(), walked.clone());
        move |what: Access, path: &str| {
            if what == Access::List && path.starts_with("eb-") {
                *walked.lock().expect("a lock") += 1;
                let slow = *walked.lock().expect("a lock") > 100;
                let lock = arrived.0.lock().expect("a lock");
                drop(arrived.1.wait_timeout_while(lock, Duration::from_millis(50), |arrived| slow && !*arrived));
            }
        }
    };
    let store = start(dir.path(), [("INDEXING_PARALLEL_WORKERS", "2")], Arc::new(on_access), |_| ());
    wait_for("the walk", async || *walked.lock().expect("a lock") > 100).await;
    let stands = store.summary(&Viewer::anonymous(), 0).await.expect("a summary").indexing;
    assert_eq!(stands.watch.map(|watch| watch.mode), Some(WatchedBy::Events), "no events are to be had here");
    product(dir.path(), "new/sdp/pb");
    wait_for("what arrived", async || folders(&store).await.contains(&"new/sdp/pb".to_owned())).await;
    assert!(folders(&store).await.len() < 301, "it came last");
    *arrived.0.lock().expect("a lock") = true;
    arrived.1.notify_all();
    wait_for("all", async || folders(&store).await.len() == 301).await;
}

impl Site {
    /// A volume of two execution blocks, walked every second. Times are believed that are older than a second.
    fn new(full_walk_seconds: &str, prepare: impl FnOnce(&Path)) -> Site {
        let dir = tempfile::tempdir().expect("a folder");
        for folder in ["eb-1/sdp/pb-1", "eb-1/sdp/pb-2", "eb-2/sdp/pb-3"] {
            product(dir.path(), folder);
        }
        prepare(dir.path());
        let accesses = Arc::new(Mutex::new(Vec::new()));
        let on_access = {
            let accesses = accesses.clone();
            move |access: Access, path: &str| accesses.lock().expect("a lock").push((access, path.to_owned()))
        };
        let pairs = [
            ("DPD_RECONCILE_SECONDS", "1"),
            ("DPD_FULL_WALK_SECONDS", full_walk_seconds),
            ("DPD_WATCH", "poll"),
            ("DPD_TREE_ATTRIBUTES", "user.rctime,user.rentries,user.rfiles"),
        ];
        let store = start(dir.path(), pairs, Arc::new(on_access), |indexing| indexing.doubt = Duration::ZERO);
        Site { dir, store, accesses }
    }

    /// Makes a change, waits until these folders hold products, and tells what was accessed in ways of a kind meanwhile. (A walk
    /// that is under way may see a part of the change, and the next one the rest.)
    async fn change(&self, change: impl FnOnce(&Path), products: &[&str], kind: Access) -> BTreeSet<String> {
        self.forget();
        change(self.dir.path());
        wait_for("the change", async || folders(&self.store).await == products).await;
        let accesses = self.accesses.lock().expect("a lock");
        accesses.iter().filter(|(what, _)| *what == kind).map(|(_, path)| path.clone()).collect()
    }

    /// Forgets what was accessed up to now.
    fn forget(&self) {
        self.accesses.lock().expect("a lock").clear();
    }

    /// Waits for a whole walk from now on in which the given kinds of accesses were of these folders and files alone.
    async fn walk(&self, expected: &[(Access, &[&str])]) {
        self.forget();
        self.walked(expected).await;
    }

    /// Waits for such a walk among those since all was forgotten.
    async fn walked(&self, expected: &[(Access, &[&str])]) {
        let begun = Instant::now();
        loop {
            let walks = walks(&self.accesses.lock().expect("a lock"));
            let is_so = |walk: &Vec<(Access, String)>| {
                expected.iter().all(|(access, paths)| {
                    let mut accessed: Vec<&str> =
                        walk.iter().filter(|(what, _)| what == access).map(|(_, path)| path.as_str()).collect();
                    accessed.sort_unstable();
                    accessed.dedup();
                    accessed == *paths
                })
            };
            if walks.iter().any(is_so) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "no walk is as {expected:?}, of {walks:?}");
            tokio::task::yield_now().await;
        }
    }
}

/// Cuts accesses into walks, less those that did not begin or end. Each begins with a look at the storage path: it is
/// listed, and then asked for what it tells of all below it.
fn walks(accesses: &[(Access, String)]) -> Vec<Vec<(Access, String)>> {
    let begins = |at: usize| {
        let is =
            |at: usize, what: Access| accesses.get(at).is_some_and(|(access, path)| *access == what && path == ".");
        at > 0 && is(at - 1, Access::List) && is(at, Access::Attribute)
    };
    let starts: Vec<usize> = (0..accesses.len()).filter(|at| begins(*at)).collect();
    let top = |access: &(Access, String)| access.1 == "." && access.0 != Access::Look && access.0 != Access::Attribute;
    let cut = |pair: &[usize]| {
        let mut walk = accesses[pair[0] + 1..pair[1]].to_vec();
        // What the next walk begins with.
        while walk.last().is_some_and(top) {
            walk.pop();
        }
        walk
    };
    starts.windows(2).map(cut).collect()
}

const ALL: [&str; 8] = [".", "eb-1", "eb-1/sdp", "eb-1/sdp/pb-1", "eb-1/sdp/pb-2", "eb-2", "eb-2/sdp", "eb-2/sdp/pb-3"];

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_did_not_change_are_not_listed() {
    let site = Site::new("3600", |_| ());
    let files = ALL.map(|folder| format!("{folder}/ska-data-product.yaml"));
    let files = files.iter().map(String::as_str).filter(|file| file.contains("pb-"));
    let mut looks: Vec<&str> = ALL.into_iter().chain(files).collect();
    looks.sort_unstable();
    let nothing: &[&str] = &[];
    site.walk(&[(Access::Look, &looks), (Access::List, nothing), (Access::Read, nothing)]).await;
    // A new folder in one of them, and what is in it.
    let [one, two, three] = ["eb-1/sdp/pb-1", "eb-1/sdp/pb-2", "eb-2/sdp/pb-3"];
    let new = "eb-2/sdp/pb-4";
    let listed = site.change(|dir| product(dir, new), &[one, two, three, new], Access::List).await;
    assert!(
        listed.contains(new) && listed.iter().all(|path| [".", "eb-2/sdp", new].contains(&path.as_str())),
        "{listed:?}"
    );
    site.walk(&[(Access::List, nothing)]).await;
    // A file written in place leaves its folder as it was.
    let file = "eb-1/sdp/pb-1/ska-data-product.yaml";
    let rewrite = |dir: &Path| fs::write(dir.join(file), "execution_block: eb-other-20240101-2").expect("a file");
    site.forget();
    rewrite(site.dir.path());
    let others = async || site.store.products_of("eb-other-20240101-2", &Viewer::anonymous()).await.expect("an answer");
    wait_for("its change", async || others().await.len() == 1).await;
    let accesses = std::mem::take(&mut *site.accesses.lock().expect("a lock"));
    assert!(accesses.iter().all(|(what, path)| *what != Access::Read || path == file), "{accesses:?}");
    assert!(accesses.iter().all(|(what, path)| *what != Access::List || path == "."), "{accesses:?}");
    // What goes, goes.
    let remove = |dir: &Path| fs::remove_dir_all(dir.join(two)).expect("removed");
    let listed = site.change(remove, &[one, three, new], Access::List).await;
    assert!(listed.iter().all(|path| [".", "eb-1/sdp"].contains(&path.as_str())), "{listed:?}");
    let rename = |dir: &Path| fs::rename(dir.join("eb-2"), dir.join("eb-3")).expect("renamed");
    site.change(rename, &[one, "eb-3/sdp/pb-3", "eb-3/sdp/pb-4"], Access::List).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_walked_now_and_then_and_when_it_is_asked_for() {
    let site = Site::new("4", |_| ());
    let nothing: &[&str] = &[];
    for _ in 0..2 {
        site.walk(&[(Access::List, nothing)]).await;
        site.walk(&[(Access::List, &ALL)]).await;
    }
    let site = Site::new("3600", |_| ());
    site.walk(&[(Access::List, nothing)]).await;
    // The walk may begin before the wish for it returns, and there is one alone.
    site.forget();
    assert_eq!(site.store.request_reindex().await.expect("an answer"), Reindex::Accepted);
    site.walked(&[(Access::List, &ALL)]).await;
}

/// Has a folder tell that something in it changed at a time, as CephFS would.
fn tell(dir: &Path, folder: &str, seconds: u64) -> bool {
    let set = |name: &str, value: &str| {
        setxattr(dir.join(folder), name, value.as_bytes(), XattrFlags::empty()).inspect_err(|error| {
            eprintln!("skipped: no attributes here: {error}");
        })
    };
    set("user.rctime", &format!("{seconds}.090000000")).is_ok() && set("user.rentries", "7").is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_tell_that_nothing_changed_are_left_out() {
    let mut told = true;
    let site = Site::new("3600", |dir| told = ALL.into_iter().all(|folder| tell(dir, folder, 1_000_000)));
    if !told {
        return;
    }
    let nothing: &[&str] = &[];
    let untouched = [(Access::Attribute, ["."].as_slice()), (Access::List, nothing), (Access::Look, nothing)];
    site.walk(&untouched).await;
    product(site.dir.path(), "eb-2/sdp/pb-4");
    // Nobody told of it yet: it is a hint that is believed.
    site.walk(&untouched).await;
    assert_eq!(folders(&site.store).await.len(), 3);
    let all = ["eb-1/sdp/pb-1", "eb-1/sdp/pb-2", "eb-2/sdp/pb-3", "eb-2/sdp/pb-4"];
    let told = ["eb-2/sdp/pb-4", "eb-2/sdp", "eb-2", "."];
    let tell_all = |dir: &Path| told.iter().for_each(|folder| _ = tell(dir, folder, 1_000_007));
    let asked = site.change(tell_all, &all, Access::Attribute).await;
    assert!(asked.contains("eb-2/sdp/pb-4") && !asked.iter().any(|path| path.starts_with("eb-1/")), "{asked:?}");
    // Nothing is believed of what is to come, and nothing that is below a time like that.
    site.walk(&untouched).await;
    let ahead = 4_000_000_000;
    ["eb-1/sdp", "eb-1", "."].iter().for_each(|folder| _ = tell(site.dir.path(), folder, ahead));
    for _ in 0..2 {
        site.walk(&[(Access::Attribute, &[".", "eb-1", "eb-1/sdp", "eb-1/sdp/pb-1", "eb-1/sdp/pb-2", "eb-2"])]).await;
    }
    assert_eq!(folders(&site.store).await, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_stood_in_for_the_storage_path_removes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let [real, empty, link] = ["real", "empty", "link"].map(|name| dir.path().join(name));
    fs::create_dir(&empty).expect("a folder");
    product(&real, "eb-1");
    let lead_to = {
        let link = link.clone();
        move |to: &Path| {
            let new = link.with_extension("new");
            std::os::unix::fs::symlink(to, &new).expect("a link");
            fs::rename(new, &link).expect("a link in its place");
        }
    };
    lead_to(&real);
    // How often the storage path is yet to be opened: first as the other folder, then as itself.
    let left = Arc::new(Mutex::new(0));
    let on_access = {
        let (left, real) = (left.clone(), real.clone());
        move |what: Access, path: &str| {
            let mut left = left.lock().expect("a lock");
            if what == Access::Open && path == "." && *left > 0 {
                *left -= 1;
                lead_to(if *left == 1 { &empty } else { &real });
            }
        }
    };
    let store = start(&link, [("DPD_WATCH", "events")], Arc::new(on_access), |_| ());
    let is_measured = async || {
        let found = store.products_of("eb-a-20240101-1", &Viewer::anonymous()).await.expect("products");
        found.iter().all(|hit| hit.size.is_some()) && !found.is_empty()
    };
    wait_for("the product", is_measured).await;
    *left.lock().expect("a lock") = 2;
    fs::write(real.join("eb-1/ska-data-product.yaml"), "execution_block: eb-a-20240101-1\nname: another")
        .expect("a file");
    wait_for("both openings", async || *left.lock().expect("a lock") == 0).await;
    product(&real, "eb-2");
    wait_for("another one", async || folders(&store).await.contains(&"eb-2".to_owned())).await;
    assert_eq!(folders(&store).await, ["eb-1", "eb-2"]);
}
