//! A schema that is dropped while all programs run.

use super::{World, folder};

#[test]
fn a_schema_that_is_dropped_is_made_anew_and_shows_nobody_too_much() {
    let mut world = World::new();
    // What everybody saw is a group's from now on, and is numbered as what everybody sees was.
    world.site.daemons.api();
    world.indexer.signal(rustix::process::Signal::STOP);
    for n in (0..world.products).filter(|n| n % 3 != 0) {
        world.site.volume.product(&folder(n), &format!("eb-h-20240101-{n}"), "context: {access_group: secret}");
    }
    world.site.database.execute("DROP SCHEMA public CASCADE");
    let all = world.products;
    world.while_nobody_sees_too_much(|| {
        world.indexer.signal(rustix::process::Signal::CONT);
        let count = format!("SELECT count(*) = {all} FROM data_product WHERE folder IS NOT NULL");
        let made = "SELECT to_regclass('public.data_product') IS NOT NULL";
        tests::wait_for("the tables", || (world.site.database.value(made) == true).then_some(()));
        tests::wait_for("all products", || (world.site.database.value(&count) == true).then_some(()));
    });
    // And the other way round.
    world.products = 0;
    world.arrive(all, "again");
    world.while_nobody_sees_too_much(|| {
        world.site.database.execute("DROP SCHEMA public CASCADE");
        world.wait_until_right();
    });
}
