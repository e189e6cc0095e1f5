//! Where a source ends: at what is mounted in it, and where another file system begins.
//!
//! A mount is told by what the kernel says of it (a root of a mount, another mount's id), not by the device: a bind mount
//! has the device of its source, and on an overlay every layer lends its files a device of its own.

use rustix::fs::{Statx, StatxAttributes, StatxFlags};

/// The kind of overlayfs, as `statfs` tells it.
const OVERLAY: u64 = 0x794c_7630;

/// Where an object is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Where {
    device: (u32, u32),
    /// Which mount it was reached through; unknown before Linux 5.8.
    mount: Option<u64>,
    is_mounted_on: bool,
}

/// Where a source ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boundary {
    root: Where,
    is_overlay: bool,
}

impl Where {
    /// Reads where a looked at object is.
    pub(crate) fn of(stat: &Statx) -> Self {
        let has_mount = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID);
        let told = stat.stx_attributes & stat.stx_attributes_mask;
        Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            mount: has_mount.then_some(stat.stx_mnt_id),
            is_mounted_on: told.contains(StatxAttributes::MOUNT_ROOT),
        }
    }
}

impl Boundary {
    /// Returns the boundary of a source whose folder is at `root`, on a file system of this kind.
    pub(crate) fn new(root: Where, kind: u64) -> Self {
        Self { root, is_overlay: kind == OVERLAY }
    }

    /// Tells whether what a name inside stands for belongs to the source.
    pub(crate) fn holds(&self, at: Where) -> bool {
        let same_mount = match (at.mount, self.root.mount) {
            (Some(at), Some(root)) => at == root,
            _ => true,
        };
        // A subvolume is no mount, and another file system all the same: inode numbers begin anew in it.
        !at.is_mounted_on && same_mount && (self.is_overlay || at.device == self.root.device)
    }

    /// Tells whether the folder at the source's path is still the one that was opened there.
    pub(crate) fn is_root(&self, now: Where) -> bool {
        self.root.device == now.device && self.root.mount == now.mount
    }

    /// Returns the number by which an object is known: two layers of an overlay may give the same one.
    pub(crate) fn number(&self, at: Where, number: u64) -> u64 {
        if at.device == self.root.device {
            return number;
        }
        let (major, minor) = at.device;
        let device = (u64::from(major) << 32 | u64::from(minor)).wrapping_add(1);
        number ^ device.wrapping_mul(SPREAD)
    }
}

/// Spreads device numbers over the upper bits, which inode numbers rarely reach (the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Where = Where { device: (8, 1), mount: Some(30), is_mounted_on: true };
    const INSIDE: Where = Where { is_mounted_on: false, ..ROOT };
    const EXT4: u64 = 0xef53;

    #[test]
    fn a_mount_is_none_of_a_source_whatever_its_device() {
        let boundary = Boundary::new(ROOT, EXT4);
        assert!(boundary.holds(INSIDE));
        let bind = Where { mount: Some(31), is_mounted_on: true, ..INSIDE };
        assert!(!boundary.holds(bind), "a bind mount of the same file system");
        assert!(!boundary.holds(Where { is_mounted_on: true, ..INSIDE }));
        assert!(!boundary.holds(Where { mount: Some(31), ..INSIDE }), "reached through another");
        assert!(!boundary.holds(Where { device: (0, 44), ..INSIDE }), "a subvolume");
    }

    #[test]
    fn a_kernel_that_does_not_tell_mounts_tells_devices() {
        let old = |device| Where { device, mount: None, is_mounted_on: false };
        let boundary = Boundary::new(old((8, 1)), EXT4);
        assert!(boundary.holds(old((8, 1))));
        assert!(!boundary.holds(old((8, 2))));
    }

    /// Files of an overlay have the devices of its layers, and may have the same number in two of them.
    #[test]
    fn an_overlay_holds_files_of_all_its_layers_and_tells_them_apart() {
        let boundary = Boundary::new(ROOT, OVERLAY);
        let [lower, upper] = [(0, 44), (0, 45)].map(|device| Where { device, ..INSIDE });
        assert!(boundary.holds(lower) && boundary.holds(upper));
        let numbers = [INSIDE, lower, upper].map(|at| boundary.number(at, 2));
        assert_eq!(numbers[0], 2, "as it was known before");
        assert!(numbers[0] != numbers[1] && numbers[1] != numbers[2] && numbers[0] != numbers[2]);
        let mounted = Where { mount: Some(31), is_mounted_on: true, ..lower };
        assert!(!boundary.holds(mounted));
    }

    #[test]
    fn another_mount_of_the_same_folder_is_another_place() {
        let boundary = Boundary::new(ROOT, EXT4);
        assert!(boundary.is_root(ROOT));
        assert!(!boundary.is_root(Where { mount: Some(31), ..ROOT }));
        assert!(!boundary.is_root(Where { device: (8, 2), ..ROOT }));
    }
}
