//! Messages over TCP and their answers, signed and verified.

use super::Signer;
use crate::{ProviderError, RegionName};
use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::TSigVerifier;
use hickory_proto::rr::rdata::tsig::TsigError;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection to a server. TCP, since the answer to an update must not be lost (RFC 2136, section 6.2), and the size of a signed
/// answer does not matter. Whoever uses it bounds its time.
pub(crate) struct Exchange<'a> {
    /// Whose addresses it is about.
    name: &'a RegionName,
    server: &'a str,
    signer: Option<&'a Signer>,
    stream: TcpStream,
}

impl<'a> Exchange<'a> {
    pub(crate) async fn connect(
        name: &'a RegionName,
        server: &'a str,
        signer: Option<&'a Signer>,
    ) -> Result<Self, ProviderError> {
        let stream = TcpStream::connect(server).await.map_err(|error| {
            ProviderError::failed(
                place(server),
                format!("cannot connect: {error}"),
                "does the server run, and is its TCP port reached from here?",
            )
        })?;
        Ok(Self { name, server, signer, stream })
    }

    /// Sends one message and takes its answer. What the answer means is up to the caller, but it is the server's.
    pub(crate) async fn ask(&mut self, mut message: Message) -> Result<Message, ProviderError> {
        let id = message.id;
        let verifier = match self.signer {
            Some(signer) => {
                message.finalize(&signer.0, now_s()).map_err(|error| self.failed(error.to_string()))?
            }
            None => None,
        };
        let bytes = message.to_vec().map_err(|error| self.failed(error.to_string()))?;
        let answer = self.round_trip(&bytes).await.map_err(|error| {
            ProviderError::failed(
                place(self.server),
                format!("the connection broke: {error}"),
                "the server's log may say why",
            )
        })?;
        let parsed =
            Message::from_vec(&answer).map_err(|error| self.failed(format!("sent rubbish: {error}")))?;
        if parsed.id != id || parsed.metadata.message_type != MessageType::Response {
            return Err(self.failed("answered something else"));
        }
        match verifier {
            Some(verifier) => self.verified(verifier, &answer, parsed),
            None => Ok(parsed),
        }
    }

    async fn round_trip(&mut self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let length = u16::try_from(bytes.len()).map_err(|_| std::io::Error::other("too many addresses"))?;
        let framed = [&length.to_be_bytes(), bytes].concat();
        self.stream.write_all(&framed).await?;
        let length = self.stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        self.stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    /// The answer, if the key signed it. A server that rejects the key says so unsigned (RFC 8945, section 5.3.2): that is told,
    /// and nothing of the rest is believed.
    fn verified(
        &self,
        mut verifier: TSigVerifier,
        bytes: &[u8],
        answer: Message,
    ) -> Result<Message, ProviderError> {
        let key = self.signer.map(|signer| signer.0.signer_name().to_string()).unwrap_or_default();
        let Some(signature) = answer.signature() else {
            return Err(ProviderError::failed(
                place(self.server),
                format!("answered {:?} without a signature", answer.metadata.response_code),
                format!("does it know the key {key}, by this name and with this algorithm?"),
            ));
        };
        if let Some(error) = &signature.data.error {
            let clocks = clocks_apart(&signature.data.other, now_s());
            let (fault, mend) = match error {
                // Knot says so of a key that may not do what was asked, too.
                TsigError::BadKey => (
                    "does not know the key (BADKEY)",
                    "name and algorithm have to be the same as there, and it has to be allowed to change",
                ),
                TsigError::BadSig => (
                    "found the signature wrong (BADSIG)",
                    "the secret has to be the same as there, to change",
                ),
                TsigError::BadTime => (clocks.as_str(), "set the clocks of node and server, to change"),
                _ => ("rejected the signature", "its log says why it may not change"),
            };
            let mend = format!("key {key}: {mend} {}", self.name);
            return Err(ProviderError::failed(place(self.server), fault, mend));
        }
        verifier.verify(bytes).map_err(|error| {
            ProviderError::failed(
                place(self.server),
                format!("its answer is not signed with the key {key}: {error}"),
                "the secret has to be the same as there",
            )
        })?;
        Ok(answer)
    }

    fn failed(&self, fault: impl Into<String>) -> ProviderError {
        ProviderError::failed(place(self.server), fault, "")
    }
}

fn place(server: &str) -> String {
    format!("DNS server {server}")
}

/// What a server tells of its time that finds another one in a signature (RFC 8945, section 5.2.3).
fn clocks_apart(other: &[u8], now_s: u64) -> String {
    let Ok(theirs) = <[u8; 6]>::try_from(other) else { return "has another time (BADTIME)".to_owned() };
    let theirs_s = theirs.iter().fold(0, |time, byte| time << 8 | u64::from(*byte));
    let order = if theirs_s > now_s { "ahead of" } else { "behind" };
    format!(
        "has another time (BADTIME): its clock is {} s {order} that of this host",
        theirs_s.abs_diff(now_s)
    )
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::clocks_apart;

    #[test]
    fn a_time_that_is_told_is_compared_and_one_that_is_not_is_not_made_up() {
        let shown = |other: &[u8]| clocks_apart(other, 1_000_000);
        assert!(shown(&1_000_412_u64.to_be_bytes()[2..]).ends_with("412 s ahead of that of this host"));
        assert!(shown(&999_000_u64.to_be_bytes()[2..]).ends_with("1000 s behind that of this host"));
        assert_eq!(shown(&[]), "has another time (BADTIME)");
        assert_eq!(shown(&[1; 7]), "has another time (BADTIME)");
    }
}
