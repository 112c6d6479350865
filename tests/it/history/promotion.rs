//! A standby that is promoted without the last commits.

use super::World;
use std::time::{Duration, Instant};

/// How often it is tried, where somebody wants figures; then products come at the rate that is meant.
#[expect(clippy::disallowed_methods, reason = "it is no setting of a program")]
fn runs() -> Option<u32> {
    std::env::var("DPD_HISTORY_RUNS").ok()?.parse().ok()
}

/// With `DPD_HISTORY_RUNS`, the figures of so many: 500 products are lost that came at twenty a second.
#[test]
fn a_standby_that_lost_the_last_commits_is_caught_up_with() {
    let measured = runs();
    for run in 0..measured.unwrap_or(1) {
        let mut world = World::new();
        let mut standby = world.server.standby();
        standby.stop();
        match measured {
            Some(_) => {
                for _ in 0..500 {
                    world.arrive(1, "lost");
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            None => world.arrive(160, "lost"),
        }
        world.flow(3);
        world.wait_until_right();
        let epoch = world.site.database.value("SELECT epoch FROM dpd_indexing_state");
        let mut promoted = Instant::now();
        world.while_nobody_sees_too_much(|| {
            world.server.fail_over_to(standby);
            promoted = Instant::now();
        });
        world.arrive(80, "after");
        world.while_nobody_sees_too_much(|| world.wait_until_right());
        if measured.is_some() {
            println!("run {run}: all found by every API {:.1} s after the promotion", promoted.elapsed().as_secs_f64());
        }
        assert!(world.site.database.value("SELECT epoch FROM dpd_indexing_state").as_u64() > epoch.as_u64());
        world.indexer.wait_for_log("went back to an earlier state", 1);
    }
}
