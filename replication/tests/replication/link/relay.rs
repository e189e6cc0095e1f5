//! A relay between two stations that damages what passes through it.

use std::net::SocketAddr;

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// What is done to the bytes, once, after a number of them has passed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Damage {
    /// Nothing: a relay that is only slow.
    None,
    /// One bit is another.
    Flip,
    /// Some bytes are missing.
    Drop,
    /// Some bytes come twice.
    Duplicate,
    /// Two stretches change places.
    Swap,
    /// The connection ends.
    Cut,
}

impl Damage {
    pub(crate) const ALL: [Self; 6] =
        [Self::None, Self::Flip, Self::Drop, Self::Duplicate, Self::Swap, Self::Cut];
}

/// Takes one connection and passes it on to `to`; the damage is done in the dialler's direction or the other.
pub(crate) async fn relay(
    to: SocketAddr,
    damage: Damage,
    after_bytes: usize,
    upstream: bool,
    seed: u64,
) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (client, _) = socket.accept().await.unwrap();
        let server = TcpStream::connect(to).await.unwrap();
        let ((client_in, client_out), (server_in, server_out)) =
            (client.into_split(), server.into_split());
        let (up, down) = if upstream { (damage, Damage::None) } else { (Damage::None, damage) };
        let up = pass(client_in, server_out, up, after_bytes, seed);
        let down = pass(server_in, client_out, down, after_bytes, seed);
        // One end gone is the connection gone.
        tokio::select! { () = up => {}, () = down => {} }
    });
    address
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    damage: Damage,
    after_bytes: usize,
    seed: u64,
) {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut buffer, mut passed, mut done) = (vec![0; 16 * 1024], 0, false);
    loop {
        let Ok(len @ 1..) = from.read(&mut buffer).await else { return };
        let mut bytes = buffer[..len].to_vec();
        passed += len;
        if !done && passed > after_bytes {
            done = true;
            if matches!(damage, Damage::Cut) {
                return;
            }
            do_damage(&mut bytes, damage, &mut random);
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn do_damage(bytes: &mut Vec<u8>, damage: Damage, random: &mut StdRng) {
    let start = random.random_range(0..bytes.len());
    let end = random.random_range(start + 1..=bytes.len());
    match damage {
        Damage::None | Damage::Cut => {}
        Damage::Flip => bytes[start] ^= 1 << random.random_range(0..8),
        Damage::Drop => drop(bytes.drain(start..end)),
        Damage::Duplicate => {
            let again = bytes[start..end].to_vec();
            bytes.splice(end..end, again);
        }
        Damage::Swap => bytes.rotate_left(start),
    }
}
