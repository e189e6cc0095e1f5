//! How objects were touched that the map does not know (yet).

use std::{collections::HashMap, time::Duration};

use keepshare_proto::MonoTime;

use crate::{Object, Touch};

/// The most objects.
const STRANGERS_MAX: usize = 1 << 16;

/// For how long they are remembered when there is nothing to look at.
const STRANGERS_FOR: Duration = Duration::from_secs(1);

/// How objects were touched that the map does not know (yet).
///
/// A capture tells of a new file before anyone has looked into its folder, and of files that have nothing to do with the
/// source: what nobody asked for in a while is forgotten. At most 65,536 of them; a file whose touch was forgotten becomes
/// a version when it has been quiet.
#[derive(Debug, Default)]
pub struct Strangers(HashMap<Object, (Touch, MonoTime)>);

impl Strangers {
    /// Remembers how an object was touched.
    pub fn add(&mut self, now: MonoTime, object: Object, touch: Touch) {
        let has_room = self.0.len() < STRANGERS_MAX || self.0.contains_key(&object);
        if has_room && touch != Touch::default() {
            let (known, at) = self.0.entry(object).or_insert((touch, now));
            known.add(touch);
            *at = now;
        }
    }

    /// Returns how an object that is known now was touched.
    pub fn take(&mut self, object: Object) -> Touch {
        self.0.remove(&object).map_or_else(Touch::default, |(touch, _)| touch)
    }

    /// Forgets what nobody asked for.
    pub fn forget_old(&mut self, now: MonoTime) {
        self.0.retain(|_, (_, at)| now.since(*at) < STRANGERS_FOR);
    }
}
