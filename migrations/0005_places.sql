-- More of who holds a lease, and of which volume it is. Programs of the release before know nothing of these columns and
-- go on working: what they do not write is NULL, or is told by what stands beside it to be of another holder.

ALTER TABLE dpd_indexing_state
    -- Where the process runs that took the lease, as shared::process::Place, and its `holder`: one that a program of the
    -- release before followed is not meant by it.
    ADD COLUMN place json,
    -- The volume's own identity, where it was given one after its prefix had been made from its name.
    ADD COLUMN volume_id uuid;

CREATE UNIQUE INDEX dpd_indexing_state_volume_id ON dpd_indexing_state (volume_id) WHERE volume_id IS NOT NULL;
