//! The connection that a check speaks over: as it is, or under TLS; and never more than so many bytes.
//!
//! TLS proves nothing here: no certificate is verified, as with Kubernetes, whose probes these are. A
//! check asks whether a service answers; most serve a certificate for another name than `localhost`,
//! signed by an authority that this machine does not know, and some one that has expired.

use std::io;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::context::Place;
use super::eager::Eager;

/// What a handshake may take beside what is said under it: a long chain of certificates.
const TLS_MAX: usize = 64 * 1024;

/// A connection of either kind, behind one pointer: the machinery above it is compiled once.
pub(super) trait Line: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Line for T {}

/// The connection as it is; it yields at most about `most` bytes.
pub(super) fn plain(stream: TcpStream, most: usize) -> Box<dyn Line> {
    Box::new(Capped { stream: Eager::new(stream), left: most })
}

/// The same under TLS. The error is the end of a sentence.
pub(super) async fn tls(stream: TcpStream, place: &Place, most: usize) -> Result<Box<dyn Line>, String> {
    let host = match place {
        Place::Local(_) => "localhost",
        Place::Host(host, _) => host.as_str(),
    };
    let name =
        ServerName::try_from(host.to_string()).map_err(|_| format!("is not asked: {host:?} is no name for TLS"))?;
    let connector = tokio_rustls::TlsConnector::from(config()?);
    let capped = Capped { stream: Eager::new(stream), left: most + TLS_MAX };
    match connector.connect(name, capped).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::UnexpectedEof => "closed the connection in the TLS handshake".to_string(),
            io::ErrorKind::QuotaExceeded => format!("sent more than {} bytes in the TLS handshake", most + TLS_MAX),
            _ => format!("did not get through the TLS handshake: {error}"),
        }),
    }
}

/// Made at the first check over TLS, for all.
fn config() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let made = CONFIG.get_or_init(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("is not asked: TLS is not to be had: {error}"))?;
        let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
        // Each check is a connection of its own and proves that a new one can be made.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    });
    made.clone()
}

/// Takes whatever is shown.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    // Whose key it is is not known; that the other side has it says nothing more.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        use SignatureScheme::*;
        vec![
            ECDSA_NISTP256_SHA256,
            ECDSA_NISTP384_SHA384,
            ECDSA_NISTP521_SHA512,
            ED25519,
            RSA_PSS_SHA256,
            RSA_PSS_SHA384,
            RSA_PSS_SHA512,
            RSA_PKCS1_SHA256,
            RSA_PKCS1_SHA384,
            RSA_PKCS1_SHA512,
        ]
    }
}

/// A connection that yields about so many bytes and then fails.
#[derive(Debug)]
struct Capped {
    stream: Eager,
    left: usize,
}

impl AsyncRead for Capped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        // The reader's buffer bounds one read, so the cap may be passed by that much and no more.
        self.left = self.left.saturating_sub(buf.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Capped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
