//! Opens an object by its file handle, and asks for the handle of an open one.
//!
//! Neither rustix nor nix has `open_by_handle_at` and `name_to_handle_at`.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use super::events::Handle;

/// The longest handle there is (`MAX_HANDLE_SZ`).
const HANDLE_BYTES_MAX: usize = 128;

/// Linux's `struct file_handle` with room for the longest handle.
#[repr(C)]
struct FileHandle {
    bytes_len: u32,
    kind: i32,
    bytes: [u8; HANDLE_BYTES_MAX],
}

/// Opens what `handle` stands for on the file system of `mount`, as a place only (`O_PATH`).
///
/// Fails with `ESTALE` when it is gone, and without the right to search every folder.
pub(crate) fn open(mount: BorrowedFd<'_>, handle: Handle<'_>) -> io::Result<OwnedFd> {
    let len = handle.bytes.len();
    let mut raw = FileHandle {
        bytes_len: u32::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?,
        kind: handle.kind,
        bytes: [0; HANDLE_BYTES_MAX],
    };
    raw.bytes.get_mut(..len).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(handle.bytes);
    open_raw(mount, &mut raw)
}

/// Returns the handle of an open object: its type and its bytes.
pub(crate) fn of(object: BorrowedFd<'_>) -> io::Result<(i32, Box<[u8]>)> {
    let bytes_len = u32::try_from(HANDLE_BYTES_MAX).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut raw = FileHandle { bytes_len, kind: 0, bytes: [0; HANDLE_BYTES_MAX] };
    ask(object, &mut raw)?;
    let len = usize::try_from(raw.bytes_len).map_err(|_| io::ErrorKind::InvalidData)?;
    let bytes = raw.bytes.get(..len).ok_or(io::ErrorKind::InvalidData)?;
    Ok((raw.kind, bytes.into()))
}

#[expect(
    unsafe_code,
    reason = "no safe crate offers name_to_handle_at; the struct has the kernel's layout"
)]
fn ask(object: BorrowedFd<'_>, raw: &mut FileHandle) -> io::Result<()> {
    let mut mount = 0;
    // SAFETY: the name is an empty string that ends in NUL; `raw` is laid out as `struct file_handle`, says truly how
    // much room it has, and it and `mount` live over the call.
    let asked = unsafe {
        libc::name_to_handle_at(
            object.as_raw_fd(),
            c"".as_ptr(),
            std::ptr::from_mut(raw).cast(),
            &mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    if asked == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[expect(
    unsafe_code,
    reason = "no safe crate offers open_by_handle_at; the struct has the kernel's layout"
)]
fn open_raw(mount: BorrowedFd<'_>, raw: &mut FileHandle) -> io::Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: `raw` is laid out as `struct file_handle`, lives over the call, and its length is within its bytes.
    let fd = unsafe {
        libc::open_by_handle_at(mount.as_raw_fd(), std::ptr::from_mut(raw).cast(), flags)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
