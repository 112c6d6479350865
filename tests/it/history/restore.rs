//! A copy of the database that is put back.

use super::World;

#[test]
fn a_copy_that_is_put_back_is_caught_up_with() {
    let mut world = World::new();
    let copy = world.server.copy();
    world.arrive(160, "lost");
    world.flow(3);
    world.wait_until_right();
    world.while_nobody_sees_too_much(|| world.server.put_back(copy));
    world.arrive(80, "after");
    world.while_nobody_sees_too_much(|| world.wait_until_right());
    world.indexer.wait_for_log("went back to an earlier state", 1);
}

#[test]
fn a_server_that_restarts_has_lost_nothing() {
    let mut world = World::new();
    world.arrive(10, "more");
    world.wait_until_right();
    world.server.restart();
    world.arrive(80, "after");
    world.while_nobody_sees_too_much(|| world.wait_until_right());
    assert_eq!(world.site.database.value("SELECT epoch FROM dpd_indexing_state"), 1);
    assert!(!world.indexer.log().contains("earlier state"));
}
