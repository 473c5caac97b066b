//! The Nitro Security Module, `/dev/nsm`: one `ioctl` with a request and room for the answer, both CBOR (RFC 8949), as in AWS's
//! [interface](https://github.com/aws/aws-nitro-enclaves-nsm-api) and Linux's `include/uapi/linux/nsm.h`.

use std::fs::{File, OpenOptions};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use hallmark_attestation::cbor::{CborError, Reader};
use hallmark_attestation::{DeviceError, Evidence, Kind, ProduceError, Producer, Request};
use rustix::ioctl::{Opcode, Updater, opcode};

use super::failed;

/// The most bytes of user data, and of a nonce, that the device takes.
const MAX_FIELD: usize = 512;
/// The most bytes of an answer.
const MAX_ANSWER: usize = 0x3000;
/// The most bytes that are shown of a word that the device refuses with.
const MAX_WORD: usize = 64;

/// The device.
#[derive(Debug)]
pub struct Nsm {
    path: PathBuf,
    file: File,
}

impl Nsm {
    /// Its usual place.
    pub const PATH: &str = "/dev/nsm";

    /// Opens the device at `path`.
    pub fn open(path: &Path) -> Result<Self, ProduceError> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| failed(path, "open")(error.into()))?;
        Ok(Self { path: path.to_owned(), file })
    }
}

impl Producer for Nsm {
    fn kind(&self) -> Kind {
        Kind::Nitro
    }

    fn produce(&self, request: &Request) -> Result<Evidence, ProduceError> {
        use std::os::fd::AsFd as _;
        let request = encode(request)?;
        let mut room = vec![0; MAX_ANSWER];
        let answer = ask(self.file.as_fd(), &request, &mut room)
            .map_err(|errno| failed(&self.path, "ask")(std::io::Error::from(errno).into()))?;
        let document = document(answer).map_err(failed(&self.path, "answer"))?;
        Ok(Evidence { evidence: document.to_vec(), ..Evidence::default() })
    }
}

/// `{"Attestation": {"user_data": .., "nonce": .., "public_key": null}}`, null for what is empty.
fn encode(request: &Request) -> Result<Vec<u8>, ProduceError> {
    let mut out = vec![0xa1];
    text(&mut out, "Attestation");
    out.push(0xa3);
    for (name, field, bytes) in
        [("user_data", "report data", &request.report_data), ("nonce", "nonce", &request.nonce)]
    {
        let got = bytes.len();
        let length = u16::try_from(got).ok().filter(|_| got <= MAX_FIELD);
        let length = length.ok_or(ProduceError::TooLong { field, most: MAX_FIELD, got })?.to_be_bytes();
        text(&mut out, name);
        match (length, got) {
            (_, 0) => out.push(0xf6),
            ([_, low], ..24) => out.push(0x40 | low),
            ([0, low], _) => out.extend([0x58, low]),
            ([high, low], _) => out.extend([0x59, high, low]),
        }
        out.extend_from_slice(bytes);
    }
    text(&mut out, "public_key");
    out.push(0xf6);
    Ok(out)
}

/// A text of fewer than 24 bytes.
fn text(out: &mut Vec<u8>, text: &'static str) {
    out.push(0x60 | u8::try_from(text.len()).unwrap_or_default());
    out.extend_from_slice(text.as_bytes());
}

/// The document of `{"Attestation": {"document": ..}}`, or the word of `{"Error": ..}`.
fn document(answer: &[u8]) -> Result<&[u8], DeviceError> {
    let mut reader = Reader::new(answer);
    one(&mut reader)?;
    let document = match reader.text()? {
        "Attestation" => {
            one(&mut reader)?;
            match reader.text()? {
                "document" => reader.bytes()?,
                other => return Err(DeviceError::Unknown(word(other))),
            }
        }
        "Error" => return Err(DeviceError::Refused(word(reader.text()?))),
        other => return Err(DeviceError::Unknown(word(other))),
    };
    reader.end()?;
    if document.is_empty() { Err(DeviceError::Empty) } else { Ok(document) }
}

/// A map of one pair.
fn one(reader: &mut Reader<'_>) -> Result<(), DeviceError> {
    match reader.map()? {
        1 => Ok(()),
        0 => Err(CborError::Truncated.into()),
        more => Err(DeviceError::Unknown(format!("a map of {more} pairs"))),
    }
}

fn word(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_WORD).collect()
}

/// `struct nsm_raw`: two `iovec`s.
#[repr(C)]
struct Message {
    request: *const u8,
    request_length: usize,
    response: *mut u8,
    response_length: usize,
}

/// `NSM_IOCTL_RAW`.
const RAW: Opcode = opcode::read_write::<Message>(0x0a, 0);

/// Asks the device; the answer is the part of `room` that it filled.
#[allow(unsafe_code)]
fn ask<'a>(device: BorrowedFd<'_>, request: &[u8], room: &'a mut [u8]) -> rustix::io::Result<&'a [u8]> {
    let mut message = Message {
        request: request.as_ptr(),
        request_length: request.len(),
        response: room.as_mut_ptr(),
        response_length: room.len(),
    };
    // SAFETY: `Message` is what the driver reads and writes under this number. Both its pointers are valid for their lengths until the
    // call returns, the second one for writing, and nothing else refers to `room` meanwhile. A file that is not this device knows no
    // such call and touches nothing.
    unsafe { rustix::ioctl::ioctl(device, Updater::<RAW, Message>::new(&mut message)) }?;
    Ok(room.get(..message.response_length).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_call_has_the_drivers_number() {
        #[cfg(target_pointer_width = "64")]
        assert_eq!(u64::from(RAW), 0xc020_0a00);
    }

    #[test]
    fn requests_are_the_interfaces_cbor() {
        let empty = b"\xa1\x6bAttestation\xa3\x69user_data\xf6\x65nonce\xf6\x6apublic_key\xf6";
        assert_eq!(encode(&Request::default()).unwrap(), empty);
        let request = Request { report_data: vec![7; 32], nonce: vec![8; 3], at: 0 };
        let expected = [
            &b"\xa1\x6bAttestation\xa3\x69user_data\x58\x20"[..],
            &[7; 32],
            b"\x65nonce\x43\x08\x08\x08\x6apublic_key\xf6",
        ];
        assert_eq!(encode(&request).unwrap(), expected.concat());
        let longest = Request { report_data: vec![1; 512], ..Request::default() };
        assert!(encode(&longest).unwrap().windows(4).any(|bytes| bytes == b"\x59\x02\x00\x01"));
        let longer = Request { nonce: vec![1; 513], ..Request::default() };
        assert_eq!(encode(&longer), Err(ProduceError::TooLong { field: "nonce", most: 512, got: 513 }));
    }

    #[test]
    fn answers_are_read_strictly() {
        let good = b"\xa1\x6bAttestation\xa1\x68document\x43\x01\x02\x03";
        assert_eq!(document(good), Ok(&[1, 2, 3][..]));
        let refused = document(b"\xa1\x65Error\x6fInvalidArgument");
        assert_eq!(refused, Err(DeviceError::Refused("InvalidArgument".into())));
        let unknown = |text: &str| Err(DeviceError::Unknown(text.into()));
        let form = |error: CborError| Err(DeviceError::Form(error));
        let text = CborError::Type { expected: "a text", got: 2 };
        for (answer, expected) in [
            (&b""[..], form(CborError::Truncated)),
            (b"\xa0", form(CborError::Truncated)),
            (b"\xa2\x65Error\x60", unknown("a map of 2 pairs")),
            (b"\xbf\x65Error\x60\xff", form(CborError::Indefinite)),
            (b"\xa1\x69GetRandom\xa1\x66random\x41\x00", unknown("GetRandom")),
            (b"\xa1\x6bAttestation\xa1\x65nonce\x41\x00", unknown("nonce")),
            (b"\xa1\x6bAttestation\xa1\x68document\x40", Err(DeviceError::Empty)),
            (b"\xa1\x6bAttestation\xa1\x68document\x43\x01\x02", form(CborError::Truncated)),
            (
                b"\xa1\x6bAttestation\xa1\x68document\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
                form(CborError::Truncated),
            ),
            (b"\xa1\x6bAttestation\xa1\x68document\x58\x01\x02", form(CborError::NotShortest)),
            (b"\xa1\x6bAttestation\xa1\x68document\x41\x01\x00", form(CborError::Trailing(1))),
            (b"\xa1\x65Error\x41\x00", form(text)),
        ] {
            assert_eq!(document(answer), expected, "{answer:?}");
        }
        // Whatever a device says, a log line stays one short line.
        let long = [&b"\xa1\x65Error\x78\x50"[..], &[b'\n'; 8], &[b'x'; 72]].concat();
        assert_eq!(document(&long), Err(DeviceError::Refused("x".repeat(64))));
    }
}
