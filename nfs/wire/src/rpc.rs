//! RPC calls and replies (RFC 5531).

use crate::{Decoder, Encoder, Wire, XdrError, xdr::wire_enum};

/// The one version of RPC.
pub const RPC_VERSION: u32 = 2;

/// The longest credential or verifier, in bytes (RFC 5531 §8.2).
pub const AUTH_BYTES_MAX: u32 = 400;

/// The most groups of an AUTH_SYS credential (RFC 5531 Appendix A).
pub const GIDS_MAX: usize = 16;

/// The longest machine name of an AUTH_SYS credential, in bytes.
pub const MACHINE_BYTES_MAX: u32 = 255;

const CALL: u32 = 0;
const REPLY: u32 = 1;
const AUTH_NONE: u32 = 0;
const AUTH_SYS: u32 = 1;

/// The head of a call: what is asked, by whom; the arguments follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CallHead {
    /// Names the call on its connection.
    pub xid: u32,
    /// The program.
    pub program: u32,
    /// Its version.
    pub version: u32,
    /// The procedure.
    pub procedure: u32,
    /// Who claims to ask.
    pub credential: Credential,
}

/// Who claims to ask; nothing of it is proven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Credential {
    /// AUTH_NONE.
    None,
    /// AUTH_SYS.
    Sys(AuthSys),
}

/// An AUTH_SYS credential; its machine's name is checked and passed over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AuthSys {
    /// The user's number on the client.
    pub uid: u32,
    /// The first group's number on the client.
    pub gid: u32,
    gids: [u32; GIDS_MAX],
    gid_count: usize,
}

impl AuthSys {
    /// Returns the credential; `None` where there are more than [`GIDS_MAX`] groups.
    pub fn new(uid: u32, gid: u32, more: &[u32]) -> Option<Self> {
        let mut gids = [0; GIDS_MAX];
        gids.get_mut(..more.len())?.copy_from_slice(more);
        Some(Self { uid, gid, gids, gid_count: more.len() })
    }

    /// Returns the numbers of the further groups.
    pub fn gids(&self) -> &[u32] {
        &self.gids[..self.gid_count]
    }

    fn decode(bytes: &[u8]) -> Result<Self, XdrError> {
        let mut decoder = Decoder::new(bytes);
        let _stamp = decoder.u32()?;
        decoder.opaque(MACHINE_BYTES_MAX)?;
        let (uid, gid, count) = (decoder.u32()?, decoder.u32()?, decoder.u32()?);
        let max = GIDS_MAX;
        let gid_count = usize::try_from(count).ok().filter(|count| *count <= max);
        let gid_count = gid_count.ok_or(XdrError::TooLong { len: count, max: 16 })?;
        let mut gids = [0; GIDS_MAX];
        for gid in &mut gids[..gid_count] {
            *gid = decoder.u32()?;
        }
        Ok(Self { uid, gid, gids, gid_count })
    }

    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.u32(0);
        encoder.opaque(b"");
        encoder.u32(self.uid);
        encoder.u32(self.gid);
        encoder.u32(u32::try_from(self.gid_count).expect("at most 16"));
        self.gids().iter().for_each(|gid| encoder.u32(*gid));
    }
}

/// Why a message is not a call that can be carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadCall {
    /// No call at all: there is nothing to answer, and the stream is not to be trusted.
    NoCall,
    /// A call that gets a refusal.
    Refused(u32, Refusal),
}

/// Why a call was not carried out: everything a server of RPC can say about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Another version of RPC.
    RpcMismatch,
    /// The credential.
    Auth(AuthStatus),
    /// No such program here.
    ProgramUnavailable,
    /// The program has only these versions.
    ProgramMismatch {
        /// The lowest.
        low: u32,
        /// The highest.
        high: u32,
    },
    /// The program has no such procedure.
    ProcedureUnavailable,
    /// Arguments that cannot be read.
    GarbageArguments,
    /// The server is not able to.
    SystemError,
}

wire_enum! {
    /// What is wrong with a credential.
    pub enum AuthStatus {
        /// It cannot be read or is of an unknown flavor.
        BadCredential = 1,
        /// It was rejected; a new one may do.
        RejectedCredential = 2,
        /// The verifier cannot be read.
        BadVerifier = 3,
        /// The verifier expired or was repeated.
        RejectedVerifier = 4,
        /// It is too weak for this.
        TooWeak = 5,
    }
}

impl CallHead {
    /// Reads the head of a call; its arguments are what the decoder has left.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, BadCall> {
        let no_call = |_| BadCall::NoCall;
        let xid = decoder.u32().map_err(no_call)?;
        if decoder.u32().map_err(no_call)? != CALL {
            return Err(BadCall::NoCall);
        }
        if decoder.u32().map_err(no_call)? != RPC_VERSION {
            return Err(BadCall::Refused(xid, Refusal::RpcMismatch));
        }
        let program = decoder.u32().map_err(no_call)?;
        let version = decoder.u32().map_err(no_call)?;
        let procedure = decoder.u32().map_err(no_call)?;
        let refused = |status| BadCall::Refused(xid, Refusal::Auth(status));
        let credential = credential(decoder).map_err(|_| refused(AuthStatus::BadCredential))?;
        verifier(decoder).map_err(|_| refused(AuthStatus::BadVerifier))?;
        Ok(Self { xid, program, version, procedure, credential })
    }

    /// Appends the head of a call.
    pub fn encode(&self, encoder: &mut Encoder<'_>) {
        for number in [self.xid, CALL, RPC_VERSION, self.program, self.version, self.procedure] {
            encoder.u32(number);
        }
        match &self.credential {
            Credential::None => encode_no_auth(encoder),
            Credential::Sys(sys) => {
                encoder.u32(AUTH_SYS);
                let at = encoder.len();
                encoder.u32(0);
                sys.encode(encoder);
                let len = encoder.len() - at - 4;
                encoder.patch_u32(at, u32::try_from(len).expect("at most 400 bytes"));
            }
        }
        encode_no_auth(encoder);
    }
}

/// Appends the head of the reply to a call that was carried out; its results follow.
pub fn encode_accepted(encoder: &mut Encoder<'_>, xid: u32) {
    accepted(encoder, xid, 0);
}

/// Appends the whole reply to a call that was not carried out.
pub fn encode_refused(encoder: &mut Encoder<'_>, xid: u32, refusal: Refusal) {
    match refusal {
        Refusal::RpcMismatch => {
            [xid, REPLY, 1, 0, RPC_VERSION, RPC_VERSION].iter().for_each(|n| encoder.u32(*n));
        }
        Refusal::Auth(status) => {
            [xid, REPLY, 1, 1, status.number()].iter().for_each(|n| encoder.u32(*n));
        }
        Refusal::ProgramUnavailable => accepted(encoder, xid, 1),
        Refusal::ProgramMismatch { low, high } => {
            accepted(encoder, xid, 2);
            encoder.u32(low);
            encoder.u32(high);
        }
        Refusal::ProcedureUnavailable => accepted(encoder, xid, 3),
        Refusal::GarbageArguments => accepted(encoder, xid, 4),
        Refusal::SystemError => accepted(encoder, xid, 5),
    }
}

/// Reads the head of a reply: the call it answers, and whether that was carried out; the results are what is left.
pub fn decode_reply(decoder: &mut Decoder<'_>) -> Result<(u32, Result<(), Refusal>), XdrError> {
    let xid = decoder.u32()?;
    match decoder.u32()? {
        REPLY => {}
        other => return Err(XdrError::Unknown(other)),
    }
    let refusal = match decoder.u32()? {
        0 => {
            verifier(decoder)?;
            match decoder.u32()? {
                0 => return Ok((xid, Ok(()))),
                1 => Refusal::ProgramUnavailable,
                2 => Refusal::ProgramMismatch { low: decoder.u32()?, high: decoder.u32()? },
                3 => Refusal::ProcedureUnavailable,
                4 => Refusal::GarbageArguments,
                5 => Refusal::SystemError,
                other => return Err(XdrError::Unknown(other)),
            }
        }
        1 => match decoder.u32()? {
            0 => {
                let _versions = (decoder.u32()?, decoder.u32()?);
                Refusal::RpcMismatch
            }
            1 => Refusal::Auth(AuthStatus::decode(decoder)?),
            other => return Err(XdrError::Unknown(other)),
        },
        other => return Err(XdrError::Unknown(other)),
    };
    Ok((xid, Err(refusal)))
}

fn credential(decoder: &mut Decoder<'_>) -> Result<Credential, XdrError> {
    let flavor = decoder.u32()?;
    let body = decoder.opaque(AUTH_BYTES_MAX)?;
    match flavor {
        AUTH_NONE => Ok(Credential::None),
        AUTH_SYS => AuthSys::decode(body).map(Credential::Sys),
        other => Err(XdrError::Unknown(other)),
    }
}

fn verifier(decoder: &mut Decoder<'_>) -> Result<(), XdrError> {
    let _flavor = decoder.u32()?;
    decoder.opaque(AUTH_BYTES_MAX).map(drop)
}

fn accepted(encoder: &mut Encoder<'_>, xid: u32, status: u32) {
    [xid, REPLY, 0].iter().for_each(|n| encoder.u32(*n));
    encode_no_auth(encoder);
    encoder.u32(status);
}

fn encode_no_auth(encoder: &mut Encoder<'_>) {
    encoder.u32(AUTH_NONE);
    encoder.u32(0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(credential: Credential) -> CallHead {
        CallHead { xid: 7, program: 100_003, version: 3, procedure: 1, credential }
    }

    fn encoded(head: CallHead) -> Vec<u8> {
        let mut out = vec![];
        head.encode(&mut Encoder::new(&mut out));
        out
    }

    fn refusal_of(bytes: &[u8]) -> BadCall {
        CallHead::decode(&mut Decoder::new(bytes)).unwrap_err()
    }

    #[test]
    fn heads_read_back() {
        let sys = AuthSys::new(1000, 100, &[4, 24, 27]).unwrap();
        assert!(AuthSys::new(0, 0, &[0; 17]).is_none());
        for credential in [Credential::None, Credential::Sys(sys)] {
            let mut bytes = encoded(head(credential));
            bytes.extend(b"args");
            let mut decoder = Decoder::new(&bytes);
            assert_eq!(CallHead::decode(&mut decoder), Ok(head(credential)));
            assert_eq!(decoder.rest(), b"args");
        }
    }

    /// Credentials come from anyone: their lengths are limits, not wishes.
    #[test]
    fn hostile_credentials_are_refused_by_name() {
        let bad = BadCall::Refused(7, Refusal::Auth(AuthStatus::BadCredential));
        let sys = AuthSys::new(1000, 100, &[1]).unwrap();
        let good = encoded(head(Credential::Sys(sys)));
        let with = |at: usize, number: u32| {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
            bytes
        };
        for (what, at, number) in [
            ("flavor", 24, 6),
            ("TLS", 24, 7),
            ("credential length", 28, u32::MAX),
            ("credential length", 28, 401),
            ("machine name length", 36, 256),
            ("gids", 48, 1 << 28),
            ("gids", 48, 17),
        ] {
            assert_eq!(refusal_of(&with(at, number)), bad, "{what} {number}");
        }
        let verifier = BadCall::Refused(7, Refusal::Auth(AuthStatus::BadVerifier));
        assert_eq!(refusal_of(&with(60, 401)), verifier);
        assert_eq!(refusal_of(&with(8, 3)), BadCall::Refused(7, Refusal::RpcMismatch));
        assert_eq!(refusal_of(&with(4, 1)), BadCall::NoCall);
        assert_eq!(refusal_of(&good[..16]), BadCall::NoCall);
    }

    #[test]
    fn replies_read_back() {
        let mut refusals = vec![
            Refusal::RpcMismatch,
            Refusal::ProgramUnavailable,
            Refusal::ProgramMismatch { low: 3, high: 3 },
            Refusal::ProcedureUnavailable,
            Refusal::GarbageArguments,
            Refusal::SystemError,
        ];
        refusals.extend(AuthStatus::ALL.iter().map(|status| Refusal::Auth(*status)));
        for refusal in refusals {
            let mut out = vec![];
            encode_refused(&mut Encoder::new(&mut out), 9, refusal);
            let mut decoder = Decoder::new(&out);
            assert_eq!(decode_reply(&mut decoder), Ok((9, Err(refusal))));
            assert!(decoder.rest().is_empty());
        }
        let mut out = vec![];
        encode_accepted(&mut Encoder::new(&mut out), 9);
        assert_eq!(decode_reply(&mut Decoder::new(&out)), Ok((9, Ok(()))));
    }

    proptest! {
        #[test]
        fn random_messages_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = CallHead::decode(&mut Decoder::new(&bytes));
            let _ = decode_reply(&mut Decoder::new(&bytes));
        }

        /// Past the first words, so that credentials are reached.
        #[test]
        fn damaged_heads_never_panic(at in 0_usize..68, number in any::<u32>()) {
            let sys = AuthSys::new(1000, 100, &[1]).unwrap();
            let mut bytes = encoded(head(Credential::Sys(sys)));
            let at = at.min(bytes.len() - 4);
            bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
            let _ = CallHead::decode(&mut Decoder::new(&bytes));
        }
    }
}
