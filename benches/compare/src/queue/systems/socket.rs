//! Unix sockets and a pipe. Nobody sleeps but in the wake-up: reads and writes do not block, both sides spin.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags};

use super::{End, Job, ServeQueueArgs};
use crate::AnyError;
use crate::queue::args::{Side, Workload};
use crate::queue::loops;

/// Both directions of one side.
pub(crate) trait Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize>;
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize>;
    fn descriptors(&self) -> [BorrowedFd<'_>; 2];
}

/// To write to, and to read from.
pub(crate) struct Two<T>(T, T);

impl<T: Read + Write + AsFd> Line for Two<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.1.read(bytes)
    }

    fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.0.as_fd(), self.1.as_fd()]
    }
}

impl Line for UnixDatagram {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.send(bytes)
    }

    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.recv(bytes)
    }

    fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.as_fd(), self.as_fd()]
    }
}

pub(crate) struct Socket<L, O> {
    /// Connected at the first job: A is there before B.
    line: Option<L>,
    connect: O,
    /// Bytes of a message.
    size: usize,
    /// What is being written: `[gone..]` of it has not gone yet.
    out: Vec<u8>,
    gone: usize,
    /// What was read: the beginning of a message may be left over.
    read: Vec<u8>,
    filled: usize,
    wrong: u64,
}

pub(crate) fn stream(args: &ServeQueueArgs, side: Side) -> Result<impl End + use<>, AnyError> {
    let path = args.folder.join("stream");
    let listener = if side == Side::A { Some(UnixListener::bind(&path)?) } else { None };
    Ok(Socket::new(move || {
        let stream = match &listener {
            Some(listener) => listener.accept()?.0,
            None => UnixStream::connect(&path)?,
        };
        Ok(Two(stream.try_clone()?, stream))
    }))
}

pub(crate) fn datagram(args: &ServeQueueArgs, side: Side) -> Result<impl End + use<>, AnyError> {
    let (own, other) = ends(args, side, "datagram");
    let socket = UnixDatagram::bind(own)?;
    Ok(Socket::new(move || {
        let socket = socket.try_clone()?;
        socket.connect(&other)?;
        Ok(socket)
    }))
}

pub(crate) fn pipe(args: &ServeQueueArgs, side: Side) -> Result<impl End + use<>, AnyError> {
    let (from, to) = ends(args, side, "pipe");
    let make = |path: &PathBuf| -> Result<File, AnyError> {
        let mode = Mode::RUSR | Mode::WUSR;
        match rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        // For both, so that the opening waits for nobody.
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        // Refused where the user may not have so much; it has 64 KiB then.
        let _ = rustix::pipe::fcntl_setpipe_size(&file, 1 << 20);
        Ok(file)
    };
    let (to, from) = (make(&to)?, make(&from)?);
    Ok(Socket::new(move || Ok(Two(to.try_clone()?, from.try_clone()?))))
}

/// The name of what this side reads from, and of the other's.
fn ends(args: &ServeQueueArgs, side: Side, name: &str) -> (PathBuf, PathBuf) {
    let path = |side| args.folder.join(format!("{name}-{}", if side == Side::A { "a" } else { "b" }));
    (path(side), path(if side == Side::A { Side::B } else { Side::A }))
}

impl<L: Line, O: FnMut() -> Result<L, AnyError>> Socket<L, O> {
    fn new(connect: O) -> Self {
        let (out, read) = (Vec::new(), Vec::new());
        Self { line: None, connect, size: 8, out, gone: 0, read, filled: 0, wrong: 0 }
    }

    /// Whole messages that are there now: looked at, and taken away.
    fn receive(&mut self, first: u64, n: usize) -> Result<usize, AnyError> {
        let line = self.line.as_mut().ok_or("not connected")?;
        match line.read(&mut self.read[self.filled..n * self.size]) {
            Ok(0) => return Err("the other side is gone".into()),
            Ok(bytes) => self.filled += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        let whole = self.filled / self.size;
        for (message, number) in self.read[..whole * self.size].chunks_exact(self.size).zip(first..) {
            self.wrong += loops::differs(message, number);
        }
        self.read.copy_within(whole * self.size..self.filled, 0);
        self.filled -= whole * self.size;
        Ok(whole)
    }
}

impl<L: Line, O: FnMut() -> Result<L, AnyError>> End for Socket<L, O> {
    fn prepare(&mut self, job: &Job) -> Result<(), AnyError> {
        self.size = job.shape.bytes as usize;
        let bytes = self.size * job.shape.batch as usize;
        (self.out, self.gone) = (Vec::with_capacity(bytes), 0);
        (self.read, self.filled) = (vec![0; bytes], 0);
        self.wrong = 0;
        if self.line.is_none() {
            self.line = Some((self.connect)()?);
        }
        let line = self.line.as_ref().ok_or("not connected")?;
        for descriptor in line.descriptors() {
            let mut flags = rustix::fs::fcntl_getfl(descriptor)?;
            flags.set(OFlags::NONBLOCK, job.shape.workload != Workload::WakeUp);
            rustix::fs::fcntl_setfl(descriptor, flags)?;
        }
        Ok(())
    }

    /// Counts when the last byte is away: then as many went as were begun.
    #[inline]
    fn put(&mut self, first: u64, n: usize) -> Result<usize, AnyError> {
        if self.gone == self.out.len() {
            self.gone = 0;
            self.out.resize(n * self.size, 0);
            for (message, number) in self.out.chunks_exact_mut(self.size).zip(first..) {
                loops::write(message, number);
            }
        }
        let line = self.line.as_mut().ok_or("not connected")?;
        match line.write(&self.out[self.gone..]) {
            Ok(bytes) => self.gone += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(if self.gone == self.out.len() { self.out.len() / self.size } else { 0 })
    }

    #[inline]
    fn take(&mut self, first: u64, n: usize) -> Result<usize, AnyError> {
        self.receive(first, n)
    }

    fn take_asleep(&mut self, number: u64) -> Result<(), AnyError> {
        while self.receive(number, 1)? == 0 {}
        Ok(())
    }

    fn wrong(&self) -> u64 {
        self.wrong
    }
}
