//! Downloads: the folders of products as one tar, streamed.

mod archive;

use crate::Api;
use crate::error::{ApiError, Result};
use crate::reply::Response;
use crate::request::{Request, Wanted, wanted};
use archive::Archive;
use bytes::Bytes;
use futures::{StreamExt, stream};
use shared::folder::Folder;
use shared::product::Product;
use shared::store::Lookup;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::JoinHandle;
use tracing::{debug, warn};
use warp::Reply;
use warp::http::{HeaderValue, header};

/// The downloads that are running.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<AtomicUsize>);

/// One of them, until dropped.
struct Share(Running);

impl Running {
    fn begin(&self) -> Share {
        self.0.fetch_add(1, Ordering::AcqRel);
        Share(self.clone())
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// `POST /download`
pub(crate) async fn download(api: Arc<Api>, request: Request) -> Result<Response> {
    let viewer = request.viewer.clone();
    let wanted = wanted(&request.object().await?)?;
    let products: Vec<Arc<Product>> = match &wanted {
        Wanted::Uid(uid) => match api.store.product(*uid, &viewer).await? {
            Lookup::Found(hit) => vec![hit.product],
            Lookup::Forbidden => return Err(ApiError::Forbidden),
            Lookup::Unknown => Vec::new(),
        },
        Wanted::ExecutionBlock(id) => {
            api.store.products_of(id, &viewer).await?.into_iter().map(|hit| hit.product).collect()
        }
    };
    let first = products.first().ok_or_else(|| ApiError::NotFound("There is no such data product.".to_owned()))?;
    let folders = outermost(products.iter().filter_map(|product| product.folder.as_ref()));
    if folders.is_empty() {
        return Err(ApiError::NotFound("The volume holds no files of this data product.".to_owned()));
    }
    let name = match (&wanted, folders.first().and_then(Folder::name)) {
        (Wanted::Uid(_), Some(name)) => name.to_owned(),
        _ => first.execution_block.clone(),
    };
    let mut visible = Vec::new();
    for folder in &folders {
        visible.extend(api.store.visible_below(folder, &viewer).await?);
    }
    mounted(&api).await?;
    let archive = Archive::new(api.volume.clone(), &folders, &visible, api.settings.chunk);
    stream(archive, &name, api.downloads.begin()).await
}

/// Checks that this process has the volume at all: one that answers from a shared store need not.
async fn mounted(api: &Arc<Api>) -> Result<()> {
    let volume = api.volume.clone();
    match tokio::task::spawn_blocking(move || volume.open().map(drop)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            warn!("the volume cannot be opened: {error}");
            Err(ApiError::NotFound(
                "The volume is not mounted where this service runs, so it has no files to give.".to_owned(),
            ))
        }
        Err(_) => Err(ApiError::Internal),
    }
}

/// Folders less those that lie in others of them, so that nothing is in an archive twice.
fn outermost<'a>(folders: impl Iterator<Item = &'a Folder>) -> Vec<Folder> {
    let mut folders: Vec<&Folder> = folders.collect();
    folders.sort();
    let inner = |folder: &Folder| folders.iter().any(|other| *other != folder && other.contains(folder));
    folders.iter().filter(|folder| !inner(folder)).map(|folder| (*folder).clone()).collect()
}

/// Answers with an archive. Its first chunk is made before the answer begins, so that what cannot be read at all is an
/// error with a status; after that, an error breaks the connection off, and the client sees that something is missing.
async fn stream(archive: Archive, name: &str, share: Share) -> Result<Response> {
    let (archive, first) = made(make(archive)).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ApiError::NotFound("The volume does not hold the files of this data product any more.".to_owned())
        }
        _ => {
            warn!("a download cannot begin: {error}");
            ApiError::Internal
        }
    })?;
    // One chunk is made while the one before it is sent.
    let rest = stream::try_unfold((make(archive), share), |(making, share)| async {
        match made(making).await {
            Ok((archive, Some(chunk))) => Ok(Some((chunk, (make(archive), share)))),
            Ok((_, None)) => Ok(None),
            Err(error) => {
                warn!("a download breaks off: {error}");
                Err(error)
            }
        }
    });
    let first = stream::iter(first.map(Ok::<Bytes, io::Error>));
    let mut response = warp::reply::stream(first.chain(rest)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    headers.extend(HeaderValue::from_str(&disposition(name)).ok().map(|value| (header::CONTENT_DISPOSITION, value)));
    debug!(name, "a download begins");
    Ok(response)
}

/// An archive, and its next chunk.
type Made = io::Result<(Archive, Option<Bytes>)>;

/// Makes the next chunk on a thread that may wait for the disk. No thread is held while the client takes its time.
fn make(mut archive: Archive) -> JoinHandle<Made> {
    tokio::task::spawn_blocking(move || archive.next_chunk().map(|chunk| (archive, chunk)))
}

async fn made(making: JoinHandle<Made>) -> Made {
    making.await.map_err(io::Error::other)?
}

/// `Content-Disposition` with a name that every client can read, and the true one beside it where they differ (RFC 6266).
fn disposition(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let safe: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    if safe == name {
        return format!("attachment; filename=\"{safe}.tar\"");
    }
    let encoded: String = name
        .bytes()
        .map(|b| if plain(char::from(b)) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    format!("attachment; filename=\"{safe}.tar\"; filename*=UTF-8''{encoded}.tar")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_archived_twice() {
        let folder = |text: &str| text.parse::<Folder>().expect("a folder");
        let folders = ["eb/ska-sdp/pb", "eb", "eb-2", "eb/x"].map(folder);
        assert_eq!(outermost(folders.iter()), [folder("eb"), folder("eb-2")]);
        assert_eq!(outermost([folder(""), folder("a")].iter()), [folder("")]);
    }

    #[test]
    fn odd_names_are_encoded() {
        assert_eq!(disposition("eb-1"), "attachment; filename=\"eb-1.tar\"");
        assert_eq!(
            disposition("a\"b\r\né"),
            "attachment; filename=\"a_b___.tar\"; filename*=UTF-8''a%22b%0D%0A%C3%A9.tar"
        );
    }
}
