//! How a server asks for a password, found out before any is sent.
//!
//! The library that connects sends the password in clear text to whoever asks for it so, also over a connection that is not
//! encrypted. So one connection is begun by hand, as far as the question (PostgreSQL's documentation, 55.2.1 and 55.2.10).

use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The request for an encrypted connection, whole: its length and its code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// Version 3.0 of the protocol.
const VERSION: u32 = 3 << 16;
/// `AuthenticationCleartextPassword`: kind, length and code.
const CLEAR_TEXT: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 3];

/// Whether the server at an address would have the password of a user in clear text over a connection that is not encrypted.
/// `encrypts` says whether one that is encrypted is asked for first.
///
/// # Errors
/// Where it cannot be asked: whoever connects next finds out why.
pub(super) async fn wants_clear_text(
    (host, port): (&str, u16),
    (user, database): (&str, &str),
    encrypts: bool,
) -> io::Result<bool> {
    let mut stream = TcpStream::connect((host, port)).await?;
    if encrypts {
        stream.write_all(&SSL_REQUEST).await?;
        // `S`: it does; and an error, as very old ones answer, ends the connection.
        if stream.read_u8().await? != b'N' {
            return Ok(false);
        }
    }
    let mut message = VERSION.to_be_bytes().to_vec();
    for text in ["user", user, "database", database] {
        message.extend(text.as_bytes());
        message.push(0);
    }
    message.push(0);
    let length = u32::try_from(message.len() + 4).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &message].concat()).await?;
    let mut asked = [0; CLEAR_TEXT.len()];
    stream.read_exact(&mut asked).await?;
    Ok(asked == CLEAR_TEXT)
}
