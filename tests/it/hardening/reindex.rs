//! A walk that somebody asks for again and again: what else wants the volume has half of its time.

use super::standalone;
use chrono::{DateTime, TimeDelta, Utc};

#[test]
fn the_volume_rests_for_as_long_as_it_was_walked() {
    let fill = |volume: &tests::volume::Volume| {
        (0..1500).for_each(|n| volume.product(&format!("eb-{n}"), &format!("eb-a-20240101-{n}"), ""));
    };
    let running = standalone(fill, &[("INDEXING_PARALLEL_WORKERS", "1")]);
    let asked = || running.api.log().matches("reason=Asked").count();
    tests::wait_for("three walks", || {
        let status = running.api.get("/reindexdataproducts").status;
        assert!([202, 409].contains(&status), "{status}");
        (asked() >= 3).then_some(())
    });
    // When each began and ended, by what the program says of itself.
    let log = running.api.log();
    let walks: Vec<(DateTime<Utc>, DateTime<Utc>)> = log
        .lines()
        .filter(|line| line.contains("walked everything") && line.contains("walk=Whole"))
        .map(|line| {
            let ended: DateTime<Utc> = line.split(' ').next().and_then(|time| time.parse().ok()).expect("a time");
            let seconds = line.split("seconds=").nth(1).and_then(|rest| rest.split(' ').next()).expect("its seconds");
            let seconds: f64 = seconds.parse().expect("a number");
            (ended - TimeDelta::microseconds((seconds * 1e6) as i64), ended)
        })
        .collect();
    assert!(walks.len() >= 4, "{log}");
    for two in walks.windows(2) {
        let ((begun, ended), (next, _)) = (two[0], two[1]);
        // The line is written a moment after the time was taken.
        assert!(next - ended > (ended - begun) * 9 / 10, "{two:?}");
    }
}
