//! Values that cannot be taken are refused, with a line that says what to do.

use super::{HELMS, LEFT_OUT, rendered, template};

/// What is set on the values of 0.19, without the image, and what is said.
const REFUSED: &[(&str, &str)] = &[
    ("api.container=artefact.skao.int/ska-dataproduct-api", "take both out of your values"),
    ("api.version=0.18.0", "set image.repository and image.tag"),
    ("image.repository=artefact.skao.int/ska-dataproduct-api", "which `make image` builds"),
    (
        "api.postgresql.password=geheim",
        "put it into the Secret ska-dataproduct-dashboard-api-secret under the key SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD",
    ),
    ("api.useLocalTestData=true", "set it to false"),
    (
        "api.vault.useVault=true,api.vault.pathToSecretVault=a/b",
        "set vault-secret-sync.enabled=true and vault-secret-sync.secrets.api.vaultPath=a/b instead",
    ),
    ("dashboard.vault.useVault=true", "vault-secret-sync.secrets.dashboard.vaultPath=PATH instead"),
    (
        "dashboard.vault.client_id=0123",
        "put it into the Secret ska-dataproduct-dashboard-dashboard-secret under the key REACT_APP_MSENTRA_CLIENT_ID",
    ),
    ("dashboard.vault.tenant_id=0123", "under the key REACT_APP_MSENTRA_TENANT_ID"),
    ("permissionsApi.enabled=true", "name it in api.permissionsapi.serviceUrl"),
    ("api.metadata_file_name=a.yaml,api.metadataFileName=b.yaml", "take api.metadata_file_name out of your values"),
    ("api.stream_chunk_size=1024,api.streamChunkSize=2048", "take api.stream_chunk_size out of your values"),
    ("api.dateFromat=%Y,api.dateFormat=%d.%m.%Y", "take api.dateFromat out of your values"),
    ("api.storagePath=/data", "set it to a folder below /mnt/data"),
    ("api.storagePath=/mnt/data/../etc", "set it to a folder below /mnt/data"),
    (
        "dataProductPVC.create.enabled=true,dataProductPVC.create.accessModes={ReadWriteOnce}",
        "set it to [ReadWriteMany]",
    ),
    (
        "api.postgresql.host=pg,api.postgresql.readDatabaseUrl=postgres://a/b,api.postgresql.readDatabaseUrlSecretName=s",
        "set one of the two",
    ),
    (
        "api.postgresql.host=pg,api.postgresql.readDatabaseUrl=postgres://me:geheim@a/b",
        "put the URL into a Secret under the key DPD_READ_DATABASE_URL",
    ),
    ("api.postgresql.readDatabaseUrl=postgres://a/b", "set api.postgresql.host as well"),
    ("env.DATABASE_URL=postgres://me:geheim@a/b", "env.DATABASE_URL: set api.postgresql instead"),
    ("api.env.DPD_DRAIN_SECONDS=60", "api.env.DPD_DRAIN_SECONDS: set api.drainSeconds instead"),
    ("api.env.DPD_DOWNLOAD_GRACE_SECONDS=60", "set api.downloadGraceSeconds instead"),
    ("indexer.env.PERSISTENT_STORAGE_PATH=/a", "indexer.env.PERSISTENT_STORAGE_PATH: set api.storagePath instead"),
    ("env.SKA_DATAPRODUCT_API_POSTGRESQL_HOST=pg", "set api.postgresql.host instead"),
    ("env.SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD=geheim", "set api.secretName instead"),
    ("metrics.enabled=false,metrics.annotations=true", "metrics.annotations: there are no metrics"),
    ("metrics.enabled=false,metrics.podMonitor.enabled=true", "metrics.podMonitor.enabled: there are no metrics"),
    ("metrics.enabled=false,metrics.prometheusRule.enabled=true", "set metrics.enabled=true as well"),
    ("metrics.enabled=false,metrics.grafanaDashboard.enabled=true", "set metrics.enabled=true as well"),
];

/// What is of the wrong kind, and the name that is told. The words are those of Helm's version.
const WRONG: &[(&str, &str)] = &[
    ("api.replicas=two", "replicas"),
    ("api.replicas=-1", "replicas"),
    ("api.enabled=yes", "enabled"),
    ("api.postgresl.host=pg", "postgresl"),
    ("metricz.enabled=true", "metricz"),
    ("api.postgresql.schema=a-b", "postgresql"),
    ("api.postgresql.port=70000", "port"),
    ("api.indexingBatchSize=2.5", "indexingBatchSize"),
    ("api.indexingHeartbeatStaleSeconds=1", "indexingHeartbeatStaleSeconds"),
    ("api.permissionsapi.serviceUrl=permissions", "serviceUrl"),
    ("api.imagePullPolicy=Sometimes", "imagePullPolicy"),
    ("image.digest=sha256:12", "digest"),
    ("api.env.a-b=c", "a-b"),
    ("env.A={b}", "env"),
    ("api.env.A.configMapKeyRef.name=x", "configMapKeyRef"),
    ("indexer.replica=2", "replica"),
    ("securityContext.runAsUser=0", "runAsUser"),
    ("securityContext.fsGroup=42", "fsGroup"),
    ("logFormat=xml", "logFormat"),
    ("dashboard.ingress=null", "ingress"),
];

fn said(helm: &str, values: &[&str], set: &str) -> String {
    template(helm, values, &["--set", set]).expect_err(set)
}

#[test]
fn what_cannot_be_taken_is_refused_with_what_to_do() {
    for (set, says) in REFUSED {
        for helm in HELMS {
            let said = said(helm, &["0.19", LEFT_OUT], set);
            assert!(said.contains("ska-dataproduct-dashboard 1.0.0 does not take these values:"), "{set}: {said}");
            assert!(said.contains(says), "{set}, Helm {helm}: {said}");
            assert_eq!(said.lines().filter(|line| line.starts_with("- ")).count(), 1, "{set}: {said}");
            assert!(!said.contains("geheim"), "{set}: {said}");
        }
    }
}

#[test]
fn what_is_of_the_wrong_kind_is_refused_by_name() {
    for (set, says) in WRONG {
        for helm in HELMS {
            let said = said(helm, &["0.19", LEFT_OUT], set);
            assert!(said.contains("meet the specifications of the schema"), "{set}: {said}");
            assert!(said.contains(says), "{set}, Helm {helm}: {said}");
        }
    }
}

#[test]
fn all_refusals_are_told_at_once() {
    let said = said("4", &["dev-environment"], "api.postgresql.password=geheim,api.vault.useVault=true");
    assert_eq!(said.lines().filter(|line| line.starts_with("- ")).count(), 3, "{said}");
}

#[test]
fn what_older_charts_called_otherwise_is_taken() {
    let older = "api.metadata_file_name=a.yaml,api.stream_chunk_size=2097152,api.dateFromat=%Y";
    for helm in HELMS {
        let rendered = rendered(helm, "0.19", &["--set", older]);
        for (name, value) in [("METADATA_FILE_NAME", "a.yaml"), ("STREAM_CHUNK_SIZE", "2097152"), ("DATE_FORMAT", "%Y")]
        {
            let line = format!("- name: {name}\n              value: \"{value}\"\n");
            assert!(rendered.contains(&line), "{name}, Helm {helm}");
        }
    }
}

#[test]
fn what_is_left_empty_is_the_programs_default() {
    for helm in HELMS {
        let none = "api.postgresql.host=pg,api.postgresql.schema=null,api.dateFormat=null,api.indexingBatchSize=null,image.tag=null";
        let rendered = rendered(helm, "0.17", &["--set", none]);
        assert!(!rendered.contains("nil"), "Helm {helm}: {rendered}");
    }
}
