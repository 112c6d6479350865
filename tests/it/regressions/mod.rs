//! Faults that were found in use, here or in other systems of the kind. None may come back. One module an area.

mod access;
