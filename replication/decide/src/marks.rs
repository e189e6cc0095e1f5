//! What to look at, as whoever watches the folder tells it: names and objects that may have changed.

use std::collections::HashMap;

use keepshare_base::FileTime;

/// The most marks held; beyond it everything is marked instead.
pub const MARKS_MAX: usize = 1 << 20;

/// How an object was touched.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Touch {
    /// It was written to: its content may differ, whatever its times say.
    pub modified: bool,
    /// Someone who could write to it closed it.
    pub closed: bool,
    /// It was moved here; that it was closed before was told of the name that it had.
    pub moved: bool,
}

/// An object that lives, or lived: inode numbers are given again, soon and often.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Object {
    /// Its inode number.
    pub number: u64,
    /// When it was made; zero where the file system does not say.
    pub birth: FileTime,
}

/// Names and objects that may have changed since they were last looked at.
#[derive(Debug, Default)]
pub struct Marks {
    /// Names, by the inode of their folder, and how what they stand for was touched.
    pub names: HashMap<(u64, Box<[u8]>), Touch>,
    /// Objects, by inode: folders of the source.
    pub objects: HashMap<u64, Touch>,
    /// Objects that were touched in folders which are not known (yet).
    pub strangers: HashMap<Object, Touch>,
    /// Events were lost: anything may have changed.
    pub everything: bool,
}

impl Touch {
    /// Adds another touch of the same object.
    pub fn add(&mut self, other: Self) {
        self.modified |= other.modified;
        self.closed |= other.closed;
        self.moved |= other.moved;
    }

    /// Tells whether whoever wrote it has ended.
    pub fn ended(self) -> bool {
        self.closed || self.moved
    }
}

impl Marks {
    /// Tells whether nothing is marked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && !self.everything
    }

    /// Returns how many names and objects are marked.
    pub fn len(&self) -> usize {
        self.names.len() + self.objects.len() + self.strangers.len()
    }

    /// Marks a name in a folder and what it stands for.
    pub fn name(&mut self, folder: u64, name: &[u8], touch: Touch) {
        self.names.entry((folder, name.into())).or_default().add(touch);
        self.bound();
    }

    /// Marks an object.
    pub fn object(&mut self, inode: u64, touch: Touch) {
        self.objects.entry(inode).or_default().add(touch);
        self.bound();
    }

    /// Marks an object in a folder that is not known.
    pub fn stranger(&mut self, object: Object, touch: Touch) {
        self.strangers.entry(object).or_default().add(touch);
        self.bound();
    }

    /// Adds marks that were made later.
    pub fn append(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        for ((folder, name), touch) in later.names {
            self.name(folder, &name, touch);
        }
        for (inode, touch) in later.objects {
            self.object(inode, touch);
        }
        for (object, touch) in later.strangers {
            self.stranger(object, touch);
        }
        if later.everything {
            self.all();
        }
    }

    /// Marks everything: the single marks add nothing to it but what objects were closed.
    pub fn all(&mut self) {
        self.everything = true;
        self.names = HashMap::new();
    }

    fn bound(&mut self) {
        if self.len() > MARKS_MAX {
            self.all();
            (self.objects, self.strangers) = (HashMap::new(), HashMap::new());
        }
    }
}
