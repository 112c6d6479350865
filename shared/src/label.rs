//! What people read in place of a key: a label for each, and a sentence for those that a standard or the metadata
//! schema defines. `obscore.*` follows IVOA ObsCore 1.1 (Recommendation of 9 May 2017), tables 1 to 6.

/// Key, label, description.
const KNOWN: &[(&str, &str, &str)] = &[
    ("uid", "UID", "The product's unique identifier; it never changes."),
    ("execution_block", "Execution Block", "The execution block that produced the data product."),
    ("date_created", "Date Created", "The date in the execution block's identifier."),
    (
        "dataproduct_file",
        "Data Product Folder",
        "The product's folder on the volume, 'None' where no files stand behind it.",
    ),
    ("metadata_file", "Metadata File", "The product's metadata file on the volume."),
    ("metadata_store_name", "Store", "Where the product's metadata comes from: a volume, or another service."),
    ("size", "Size", "Bytes on disk of the product, where known."),
    (
        "status",
        "Status",
        "'failure' if any of the product's files failed, else 'working' if any is being written, else 'done'.",
    ),
    ("download", "Download", "The product's files, as one archive."),
    ("item_name", "Item Name", "The name of the data item, as its metadata has it."),
    ("interface", "Interface", "The schema that the metadata follows."),
    ("files", "Files", "The product's files as its metadata lists them."),
    ("context.observer", "Observer", "Who observed."),
    ("context.intent", "Intent", "What the observation was for."),
    ("context.notes", "Notes", "Notes written with the observation."),
    ("context.access_group", "Access Group", "Who may see the product; everybody where there is none."),
    ("config.execution_block", "Execution Block", "The execution block, as the generating software was given it."),
    ("config.processing_block", "Processing Block", "The processing block that produced the data product."),
    ("config.processing_script", "Processing Script", "The script that the processing block ran."),
    ("config.image", "Image", "The container image of the processing script."),
    ("config.version", "Version", "The version of the processing script."),
    ("config.commit", "Commit", "The commit that the processing script was built from."),
    ("config.cmdline", "Command Line", "How the generating software was called."),
    ("sdp_flows", "SDP Flows", "The flows of the SDP configuration database that write the product, as JSON."),
    ("sdp_flow_status", "SDP Flow Status", "The status of the least finished of the product's flows."),
    (
        "sdp_flow_placeholder",
        "SDP Flow Placeholder",
        "True for a flow whose data product is not there yet, and which has this row until it is.",
    ),
    ("dlm.item_state", "DLM Item State", "The state of the data item in the Data Lifecycle Manager."),
    ("dlm.item_name", "DLM Item Name", "The name of the data item in the Data Lifecycle Manager."),
    ("dlm.uri", "DLM URI", "Where the Data Lifecycle Manager has the data item."),
    (
        "obscore.dataproduct_type",
        "Data Product Type",
        "The logical type of the data product, such as image, cube or visibility.",
    ),
    ("obscore.dataproduct_subtype", "Data Product Subtype", "The specific type of the data product."),
    (
        "obscore.calib_level",
        "Calibration Level",
        "How far the data are calibrated: 0 raw, 1 instrumental, 2 calibrated, 3 enhanced, 4 analysis product.",
    ),
    ("obscore.obs_collection", "Observation Collection", "The name of the collection that the data belong to."),
    ("obscore.obs_id", "Observation ID", "The identifier of the observation."),
    ("obscore.obs_title", "Title", "A brief description of the dataset in free form."),
    ("obscore.obs_publisher_did", "Publisher Dataset ID", "The dataset's identifier given by its publisher."),
    ("obscore.obs_release_date", "Release Date", "When the dataset becomes public."),
    ("obscore.access_url", "Access URL", "Where the dataset can be downloaded."),
    ("obscore.access_format", "Access Format", "The format (MIME type) of the file."),
    ("obscore.access_estsize", "Estimated Size", "The estimated size of the dataset in kilobytes."),
    ("obscore.target_name", "Target Name", "The name of the astronomical object observed, if any."),
    ("obscore.target_class", "Target Class", "The class of the target, as in Simbad."),
    ("obscore.s_ra", "Right Ascension", "The central right ascension of the dataset, ICRS, in degrees."),
    ("obscore.s_dec", "Declination", "The central declination of the dataset, ICRS, in degrees."),
    ("obscore.s_fov", "Field of View", "The diameter of the region covered, in degrees."),
    ("obscore.s_region", "Sky Region", "The region covered on the sky."),
    ("obscore.s_resolution", "Spatial Resolution", "The spatial resolution of the data (FWHM), in arcseconds."),
    ("obscore.s_xel1", "Spatial Pixels (1)", "The number of elements along the first spatial axis."),
    ("obscore.s_xel2", "Spatial Pixels (2)", "The number of elements along the second spatial axis."),
    ("obscore.t_min", "Start Time", "The start of the observation, as a Modified Julian Date."),
    ("obscore.t_max", "Stop Time", "The end of the observation, as a Modified Julian Date."),
    ("obscore.t_exptime", "Exposure Time", "The total exposure time, in seconds."),
    ("obscore.t_resolution", "Temporal Resolution", "The temporal resolution (FWHM), in seconds."),
    ("obscore.t_xel", "Time Samples", "The number of elements along the time axis."),
    (
        "obscore.em_min",
        "Shortest Wavelength",
        "The start of the spectral coverage, in metres of vacuum wavelength, or as em_unit says.",
    ),
    (
        "obscore.em_max",
        "Longest Wavelength",
        "The end of the spectral coverage, in metres of vacuum wavelength, or as em_unit says.",
    ),
    (
        "obscore.em_resolution",
        "Spectral Resolution",
        "The spectral resolution (FWHM), in metres of vacuum wavelength, or as em_unit says.",
    ),
    (
        "obscore.em_unit",
        "Spectral Unit",
        "The unit of em_min, em_max and em_resolution; metres of vacuum wavelength where there is none.",
    ),
    ("obscore.em_res_power", "Spectral Resolving Power", "The spectral resolving power."),
    ("obscore.em_xel", "Spectral Channels", "The number of elements along the spectral axis."),
    ("obscore.em_ucd", "Spectral UCD", "The nature of the spectral axis, as a UCD."),
    ("obscore.o_ucd", "Observable UCD", "The nature of the observable axis, as a UCD."),
    ("obscore.pol_states", "Polarization States", "The polarization states, between slashes, such as /XX/YY/."),
    ("obscore.pol_xel", "Polarization Samples", "The number of polarization samples."),
    ("obscore.facility_name", "Facility", "The name of the facility used for the observation."),
    ("obscore.instrument_name", "Instrument", "The name of the instrument used for the observation."),
];

fn known(key: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    KNOWN.iter().find(|(known, _, _)| *known == key)
}

/// The keys that are known before any product has them.
pub fn known_keys() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(key, _, _)| *key)
}

/// What a key is called; for one that nobody foresaw, its last name written as words.
pub fn label(key: &str) -> String {
    known(key).map_or_else(|| words(key.rsplit('.').next().unwrap_or(key)), |(_, label, _)| (*label).to_owned())
}

/// What a key means, where that is defined.
pub fn description(key: &str) -> Option<&'static str> {
    known(key).map(|(_, _, description)| *description)
}

/// `processing_block` → `Processing Block`.
fn words(name: &str) -> String {
    let words = name.split(['_', ' ']).filter(|word| !word.is_empty()).map(|word| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_label() {
        assert_eq!(label("obscore.s_ra"), "Right Ascension");
        assert_eq!((label("download"), label("obscore.em_unit")), ("Download".to_owned(), "Spectral Unit".to_owned()));
        assert_eq!(label("context.my_own_key"), "My Own Key");
        assert_eq!(label("élan"), "Élan");
        assert_eq!(description("context.my_own_key"), None);
    }
}
