//! A client that speaks the protocol byte by byte, and as wrongly as it is told to.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    time::Duration,
};

use keepshare_nfs_wire::{
    Decoder, Encoder, Wire, mount,
    nfs3::{
        self, Attributes, Call, DirEntry, DirOk, DirOpArgs, Failure, Handle, LookupOk, ReadDirArgs,
        Reply, Status, decode_entries,
    },
    record::append_record,
    rpc::{AuthSys, CallHead, Credential, Refusal, decode_reply},
};

use super::station::{ANNA_AT_HOME, LOCALHOST, Station};

/// How long an answer may take before a test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) credential: Credential,
    xid: u32,
}

/// Bytes of a handle, kept.
pub(crate) type Kept = Vec<u8>;

pub(crate) fn sys(uid: u32) -> Credential {
    Credential::Sys(AuthSys::new(uid, 100, &[]).unwrap())
}

impl Client {
    pub(crate) fn connect(station: &Station) -> Self {
        Self::connect_from(station, Ipv4Addr::LOCALHOST)
    }

    /// Connects from one of the many addresses of this machine.
    pub(crate) fn connect_from(station: &Station, from: Ipv4Addr) -> Self {
        Self::try_connect_from(station, SocketAddrV4::new(from, 0)).unwrap()
    }

    /// Connects from this address and port, which takes root below 1024.
    pub(crate) fn try_connect_from(station: &Station, from: SocketAddrV4) -> io::Result<Self> {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        // A port that was just used may be waiting for its last packets.
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &from)?;
        connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, station.port))?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Ok(Self { stream, credential: sys(ANNA_AT_HOME), xid: 0 })
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.stream.local_addr().map(|address: SocketAddr| address.ip()).unwrap()
    }

    /// Connects and mounts with a fresh ticket; returns the root.
    pub(crate) fn mounted(station: &Station) -> (Self, Kept) {
        let mut client = Self::connect(station);
        let ticket = station.ticket(LOCALHOST, Some(ANNA_AT_HOME));
        let root = client.mount(&format!("/login/{ticket}")).unwrap();
        (client, root)
    }

    pub(crate) fn mount(&mut self, path: &str) -> Result<Kept, mount::MountError> {
        let answer = self.call(mount::PROGRAM, 3, 1, |e| e.opaque(path.as_bytes())).unwrap();
        let mut decoder = Decoder::new(&answer);
        let mounted = mount::decode_mounted(&mut decoder).unwrap();
        mounted.map(|handle| handle.as_bytes().to_vec())
    }

    /// Makes a call of NFS and reads its result.
    pub(crate) fn nfs(&mut self, call: Call<'_>) -> Vec<u8> {
        let mut args = vec![];
        let procedure = call.encode(&mut Encoder::new(&mut args)).number();
        self.call(nfs3::PROGRAM, 3, procedure, |e| e.array(&args)).unwrap()
    }

    pub(crate) fn attributes(&mut self, handle: &[u8]) -> Result<Attributes, Status> {
        let answer = self.nfs(Call::GetAttributes(handle_of(handle)));
        good(read::<Reply<Attributes, ()>>(&answer))
    }

    pub(crate) fn lookup(&mut self, dir: &[u8], name: &str) -> Result<Kept, Status> {
        self.lookup_bytes(dir, name.as_bytes())
    }

    pub(crate) fn lookup_bytes(&mut self, dir: &[u8], name: &[u8]) -> Result<Kept, Status> {
        let answer = self.nfs(Call::Lookup(DirOpArgs { dir: handle_of(dir), name }));
        let found = read::<Reply<LookupOk<'_>, Option<Attributes>>>(&answer);
        good(found).map(|found| found.object.as_bytes().to_vec())
    }

    /// Returns the names in a folder that is listed in one go.
    pub(crate) fn names(&mut self, dir: &[u8]) -> Vec<String> {
        let args = ReadDirArgs { dir: handle_of(dir), cookie: 0, verifier: [0; 8], count: 1 << 20 };
        let answer = self.nfs(Call::ReadDir(args));
        assert_eq!(status(&answer), Ok(()));
        let mut decoder = Decoder::new(&answer[4..]);
        decoder.value::<DirOk>().unwrap();
        let (entries, is_end) = decode_entries::<DirEntry<'_>>(&mut decoder).unwrap();
        assert!(is_end);
        entries.iter().map(|entry| String::from_utf8(entry.name.to_vec()).unwrap()).collect()
    }

    pub(crate) fn null(&mut self) -> Result<(), Refusal> {
        self.call(nfs3::PROGRAM, 3, 0, |_| ()).map(|answer| assert!(answer.is_empty()))
    }

    /// Makes a call and waits for its answer; other answers are passed over.
    pub(crate) fn call(
        &mut self,
        program: u32,
        version: u32,
        procedure: u32,
        args: impl FnOnce(&mut Encoder<'_>),
    ) -> Result<Vec<u8>, Refusal> {
        let record = self.record(program, version, procedure, args);
        self.stream.write_all(&record).unwrap();
        self.answer(self.xid).unwrap()
    }

    /// Returns the bytes of a call, mark and all.
    pub(crate) fn record(
        &mut self,
        program: u32,
        version: u32,
        procedure: u32,
        args: impl FnOnce(&mut Encoder<'_>),
    ) -> Vec<u8> {
        self.xid += 1;
        let head =
            CallHead { xid: self.xid, program, version, procedure, credential: self.credential };
        let mut record = vec![];
        append_record(&mut record, |encoder| {
            head.encode(encoder);
            args(encoder);
        });
        record
    }

    /// Returns the bytes of a call of NFS, mark and all.
    pub(crate) fn nfs_record(&mut self, call: Call<'_>) -> Vec<u8> {
        let mut args = vec![];
        let procedure = call.encode(&mut Encoder::new(&mut args)).number();
        self.record(nfs3::PROGRAM, 3, procedure, |e| e.array(&args))
    }

    /// Returns the number of the last call.
    pub(crate) fn last_xid(&self) -> u32 {
        self.xid
    }

    /// Waits for the answer to one call; fails where the server has closed the connection.
    pub(crate) fn answer(&mut self, xid: u32) -> io::Result<Result<Vec<u8>, Refusal>> {
        loop {
            let record = self.next_record()?;
            let mut decoder = Decoder::new(&record);
            let (of, outcome) = decode_reply(&mut decoder).unwrap();
            if of == xid {
                return Ok(outcome.map(|()| decoder.rest().to_vec()));
            }
        }
    }

    pub(crate) fn next_record(&mut self) -> io::Result<Vec<u8>> {
        let mut mark = [0; 4];
        self.stream.read_exact(&mut mark)?;
        let mark = u32::from_be_bytes(mark);
        assert_ne!(mark >> 31, 0, "the server sends one fragment");
        let mut record = vec![0; usize::try_from(mark & 0x7fff_ffff).unwrap()];
        self.stream.read_exact(&mut record)?;
        Ok(record)
    }

    /// Waits until the server has closed the connection, whatever it sends before.
    pub(crate) fn wait_for_close(&mut self) {
        let mut buffer = [0; 65536];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the server did not close the connection: {error}"),
            }
        }
    }
}

pub(crate) fn handle_of(bytes: &[u8]) -> Handle<'_> {
    Handle::new(bytes).unwrap()
}

/// Reads a result that must be there whole, with nothing after it.
pub(crate) fn read<'a, T: Wire<'a>>(answer: &'a [u8]) -> T {
    let mut decoder = Decoder::new(answer);
    let value = decoder.value().unwrap();
    assert!(decoder.rest().is_empty(), "{} bytes after the result", decoder.rest().len());
    value
}

pub(crate) fn good<T, F>(reply: Reply<T, F>) -> Result<T, Status> {
    reply.map_err(|Failure { status, .. }| status)
}

/// Returns the status of any result.
pub(crate) fn status(answer: &[u8]) -> Result<(), Status> {
    match Decoder::new(answer).u32().unwrap() {
        0 => Ok(()),
        number => Err(Status::from_number(number).unwrap()),
    }
}
