//! A volume on which each call takes 5 ms, as over a network: how many products a second one worker reads, and how many 64
//! do. `cargo bench -p indexer`; it takes a minute.

use shared::config::{Settings, Variables};
use shared::folder::Folder;
use shared::store::Store;
use shared::store::memory::MemoryStore;
use shared::volume::Volume;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CALL: Duration = Duration::from_millis(5);
/// Products a worker.
const EACH: usize = 100;

fn fill(volume: &Path, products: usize) {
    for n in 0..products {
        let folder = volume.join(format!("eb-{}/pb-{n}", n / 10));
        fs::create_dir_all(&folder).expect("a folder");
        let metadata = format!("execution_block: eb-a-20240101-{n}\nconfig: {{processing_script: x}}\n");
        fs::write(folder.join("ska-data-product.yaml"), metadata).expect("a file");
    }
}

/// Products a second, from the start to the last of them.
async fn rate(workers: usize) -> f64 {
    let dir = tempfile::tempdir().expect("a folder");
    let products = EACH * workers;
    fill(dir.path(), products);
    let count = workers.to_string();
    let variables = Variables::from([("INDEXING_PARALLEL_WORKERS", count.as_str())]);
    let settings = Settings::read(&variables, dir.path().to_str().map(str::to_owned)).expect("settings");
    let volume = Arc::new(Volume::new(&settings.volume).behind(Arc::new(|_, _| std::thread::sleep(CALL))));
    let store = Arc::new(MemoryStore::default());
    let begun = Instant::now();
    let indexing = tokio::spawn(indexer::run(volume, store.clone(), settings.indexing, None, Default::default()));
    while store.known(&Folder::root()).await.expect("what is known").len() < products {
        tokio::time::sleep(CALL).await;
    }
    let rate = products as f64 / begun.elapsed().as_secs_f64();
    indexing.abort();
    println!("{workers} workers: {products} products, {rate:.0} a second");
    rate
}

#[tokio::main]
async fn main() {
    let (one, many) = (rate(1).await, rate(64).await);
    println!("64 workers are {:.1} times as fast as one", many / one);
}
