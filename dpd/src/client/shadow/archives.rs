//! How large the archives are of products that both have, as `HEAD` tells.

use super::faults::Fault;
use super::products::Lists;
use super::report::{Verdict, What};
use super::{Result, Shadow};

/// What `tar` fills an archive up to.
const BLOCK: u64 = 10_240;
/// After how many that the old one tells no size of no more are asked for.
const ENOUGH: usize = 3;

/// Compares the sizes.
pub(super) fn compare(shadow: &mut Shadow, lists: &Lists, sample: &[String]) -> Result<()> {
    let with_files: Vec<&String> = sample.iter().filter(|uid| lists.new[*uid].has_file()).collect();
    let mut untold = 0;
    for (done, uid) in with_files.iter().enumerate() {
        shadow.progress.at("archives", done, with_files.len());
        let path = format!("/download/{uid}");
        let (old, theirs) = shadow.sides.old.head(&path);
        let told = theirs.filter(|_| old == 200);
        let Some(theirs) = told else {
            shadow.report.differs(
                What::Archives,
                Verdict::NotCompared,
                Some(Fault::NoSizes),
                *uid,
                format!("status {old}"),
            );
            untold += 1;
            if untold >= ENOUGH && untold > done {
                shadow
                    .report
                    .note("the old service tells no sizes of archives by HEAD, so that these were not compared");
                return Ok(());
            }
            continue;
        };
        let (new, ours) = shadow.sides.new.head(&path);
        let Some(ours) = ours.filter(|_| new == 200) else {
            let how = format!("old: {theirs} bytes, new: status {new}");
            shadow.report.differs(What::Archives, Verdict::TheirsMore, None, *uid, how);
            continue;
        };
        if ours == theirs {
            shadow.report.equal(What::Archives, 1);
            continue;
        }
        let why = (ours.div_ceil(BLOCK) * BLOCK == theirs).then_some(Fault::Blocks);
        let how = format!("old: {theirs} bytes, new: {ours} bytes");
        let verdict = if ours > theirs { Verdict::OursMore } else { Verdict::TheirsMore };
        shadow.report.differs(What::Archives, verdict, why, *uid, how);
    }
    Ok(())
}
