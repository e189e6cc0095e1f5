use super::*;

const SHARES: Shares = Shares {
    places: 256,
    of_an_address: 128,
    of_an_addresses_strangers: 96,
    of_a_holder: 64,
    of_kin: 128,
};

/// Akin are those whose names begin alike.
impl Holder for &'static str {
    fn is_akin(&self, other: &Self) -> bool {
        self[..1] == other[..1]
    }
}

struct Door {
    gate: Gate<u64, &'static str>,
    pulses: HashMap<u64, Arc<Pulse>>,
    out: Vec<u64>,
}

impl Door {
    fn new(shares: Shares) -> Self {
        Self { gate: Gate::new(shares), pulses: HashMap::new(), out: Vec::new() }
    }

    fn enter(&mut self, from: IpAddr, now_ms: u64) -> u64 {
        let (place, pulse) = (self.gate.new_place(), Arc::<Pulse>::default());
        self.out.extend(self.gate.enter(place, from, pulse.clone(), place, now_ms));
        self.pulses.insert(place, pulse);
        place
    }

    fn known(&mut self, from: IpAddr, holder: &'static str, now_ms: u64) -> u64 {
        let place = self.enter(from, now_ms);
        self.pulses[&place].beat(now_ms);
        self.out.extend(self.gate.belongs(place, holder, now_ms));
        place
    }

    fn stands(&self, place: u64) -> bool {
        self.gate.standing.contains_key(&place)
    }

    fn held_by(&self, holder: &str) -> usize {
        self.gate.count(|standing| standing.holder == Some(holder))
    }
}

fn address(n: u32) -> IpAddr {
    IpAddr::from((0x0a00_0000 + n).to_be_bytes())
}

/// As at a door where nobody is known before the place is given up.
const HANDSHAKES: Shares = Shares {
    places: 256,
    of_an_address: 32,
    of_an_addresses_strangers: 32,
    of_a_holder: 32,
    of_kin: 32,
};

#[test]
fn a_crowd_pushes_out_its_own_oldest() {
    let mut door = Door::new(HANDSHAKES);
    let crowd: Vec<_> = (0..HANDSHAKES.of_an_address).map(|_| door.enter(address(1), 0)).collect();
    door.enter(address(2), 0);
    assert!(door.out.is_empty());
    door.enter(address(1), 0);
    door.enter(address(1), 0);
    assert_eq!(door.out, crowd[..2]);
}

/// A flood from many addresses must not be able to keep a single station out: not one that is faster than any handshake,
/// nor one that goes on for longer than any, where the station gets on with its own.
#[test]
fn a_single_station_gets_on_with_its_handshake_in_a_flood() {
    for (apart_us, steps_ms) in [(50, u64::MAX), (1000, 500)] {
        let mut door = Door::new(HANDSHAKES);
        let good = door.enter(address(200), 0);
        for n in 1..10_000_u32 {
            let now_ms = u64::from(n) * apart_us / 1000;
            if now_ms % steps_ms == steps_ms - 1 {
                door.pulses[&good].beat(now_ms);
            }
            door.enter(address(n % 8), now_ms);
            assert!(door.gate.standing.len() <= HANDSHAKES.places);
        }
        assert!(door.stands(good), "the one station of its address was pushed out");
        assert!(door.gate.leave(good) && !door.gate.leave(good));
    }
}

#[test]
fn neighbours_of_one_ipv6_network_count_as_one() {
    let [a, b, c, v4, mapped]: [IpAddr; 5] =
        ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1", "10.0.0.1", "::ffff:10.0.0.1"]
            .map(|address| address.parse().unwrap());
    assert_eq!(source(a), source(b));
    assert_ne!(source(a), source(c));
    assert_eq!(source(v4), source(mapped));
}

/// However many addresses somebody has, others find places.
#[test]
fn a_user_holds_a_quarter_of_a_door_at_most() {
    let mut door = Door::new(SHARES);
    for n in 0..2000 {
        door.known(address(n % 8), "mallory", u64::from(n));
        assert!(door.held_by("mallory") <= SHARES.of_a_holder);
    }
    assert_eq!(door.gate.standing.len(), SHARES.of_a_holder);
    let good = door.known(address(99), "anna", 3000);
    for n in 0..2000 {
        door.known(address(n % 8), "mallory", 3000 + u64::from(n));
    }
    assert!(door.stands(good));
}

/// Machines that are trusted together have a share each, and half of the door together.
#[test]
fn holders_that_are_akin_hold_half_of_a_door_at_most() {
    let mut door = Door::new(SHARES);
    let good = door.known(address(999), "bob", 0);
    let names = ["aa", "ab", "ac", "ad", "ae", "af", "ag", "ah"];
    for (name, n) in names.into_iter().zip(0..) {
        for m in 0..16_u32 {
            door.known(address(n), name, u64::from(m));
        }
    }
    assert!(door.out.is_empty(), "each has room beside the others");
    // One of them that takes more pays for it itself.
    for m in 0..100_u32 {
        door.known(address(0), "aa", 100 + u64::from(m));
        assert!(door.held_by("aa") <= SHARES.of_a_holder);
    }
    let all: usize = names.into_iter().map(|name| door.held_by(name)).sum();
    assert_eq!(all, SHARES.of_kin);
    assert!(names.into_iter().all(|name| door.held_by(name) >= 15), "one pushed others out");
    assert!(door.stands(good));
}

#[test]
fn an_address_holds_half_of_a_door_at_most() {
    let mut door = Door::new(SHARES);
    let users = ["a", "b", "c", "d"];
    for n in 0..1000 {
        door.known(address(1), users[n % 4], 10 * n as u64);
        assert!(door.gate.standing.len() <= SHARES.of_an_address);
    }
    // Of IPv6, addresses are anybody's to choose below a /64.
    let mut door = Door::new(SHARES);
    for n in 0..1000_u16 {
        let from = IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]);
        door.known(from, users[usize::from(n) % 4], 10 * u64::from(n));
    }
    assert_eq!(door.gate.standing.len(), SHARES.of_an_address);
}

/// Whoever takes all places and says nothing makes room for the first who comes.
#[test]
fn a_full_door_lets_everybody_in() {
    let mut door = Door::new(SHARES);
    let silent: Vec<_> = (0..300).map(|n| door.enter(address(n % 20), 0)).collect();
    assert_eq!(door.gate.standing.len(), SHARES.places);
    for n in 0..77 {
        let good = door.enter(address(1000 + n), 5000 + u64::from(n));
        door.pulses[&good].beat(5000 + u64::from(n));
        assert!(door.stands(good));
    }
    let left: Vec<_> = silent.iter().filter(|silent| door.stands(**silent)).collect();
    assert_eq!(left.len(), SHARES.places - 77);
    assert!(door.out.iter().all(|out| silent.contains(out)), "nobody else made room");
    assert_eq!(door.out[..], silent[..door.out.len()], "those who came first, first");
}

/// Many people have one address; who is silent there keeps none of them out.
#[test]
fn silent_ones_of_an_address_make_room_for_others_of_it() {
    let mut door = Door::new(SHARES);
    let silent: Vec<_> = (0..96).map(|_| door.enter(address(1), 0)).collect();
    let together: Vec<_> = (0..30).map(|_| door.enter(address(1), 2000)).collect();
    assert!(together.iter().all(|good| door.stands(*good)));
    assert_eq!(door.out, silent[..30]);
}

/// One that waits for an answer of ours says nothing, and must not lose its place for it.
#[test]
fn who_waits_for_us_is_not_silent() {
    let mut door = Door::new(SHARES);
    let waits = door.enter(address(1), 0);
    let work = door.pulses[&waits].work();
    for n in 0..1000 {
        door.enter(address(1 + n % 7), 10_000 + u64::from(n));
    }
    assert!(door.stands(waits));
    drop(work);
    for n in 0..1000 {
        door.enter(address(1 + n % 7), 20_000 + u64::from(n));
    }
    assert!(!door.stands(waits));
}

/// Connections that come faster than anybody can answer cost the addresses that they come from.
#[test]
fn a_flood_pushes_out_its_own() {
    let mut door = Door::new(SHARES);
    for n in 0..5000_u32 {
        let now = u64::from(n / 100);
        door.enter(address(n % 20), now);
        if n % 500 == 250 {
            let good = door.enter(address(1_000_000 + n), now);
            for more in 0..300 {
                door.enter(address(more % 20), now + 2);
            }
            assert!(door.stands(good), "{n}");
            door.gate.leave(good);
        }
    }
}

#[test]
fn strangers_make_room_before_those_who_are_known() {
    let mut door = Door::new(SHARES);
    let known: Vec<_> = (0..64).map(|n| door.known(address(n), "anna", 0)).collect();
    for n in 0..5000 {
        door.enter(address(100 + n), 3_600_000 + u64::from(n));
    }
    assert!(known.iter().all(|known| door.stands(*known)));
    assert_eq!(door.gate.standing.len(), SHARES.places);
}

/// A door that is full of users still hears the next one, who is a stranger until a handle was shown.
#[test]
fn a_door_full_of_known_ones_keeps_room_to_come_and_log_in() {
    let mut door = Door::new(SHARES);
    for (holder, n) in ["a", "b", "c", "d"].into_iter().zip(0..) {
        for m in 0..64 {
            door.known(address(n * 64 + m), holder, u64::from(m));
        }
    }
    let first = door.known(address(1000), "e", 60_000);
    assert!(door.stands(first));
    assert_eq!(door.out.len(), 1, "the one silent longest");
    // Strangers take no more than their part from those who are known.
    for n in 0..1000 {
        door.enter(address(2000 + n), 60_000);
    }
    let strangers = door.gate.count(|standing| standing.holder.is_none());
    assert!(strangers <= SHARES.places / STRANGERS_PART + 1, "{strangers}");
    assert!(door.stands(first));
}

#[test]
fn places_end_and_nothing_is_kept_of_who_left() {
    let mut door = Door::new(SHARES);
    let (anna, ben) = (door.known(address(1), "anna", 0), door.known(address(1), "ben", 0));
    assert_eq!(door.gate.end(|place| *place == anna), [anna]);
    assert!(!door.gate.leave(anna) && door.gate.leave(ben));
    assert!(door.gate.standing.is_empty());
    assert_eq!(door.gate.belongs(ben, "ben", 0), None);
    assert_eq!(door.gate.connections().count(), 0);
}
