//! Against what configfs-tsm does, said again in memory; and the calls that reach the kernel against an ordinary folder.
#![allow(clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::*;

/// The kernel's rules: an entry's generation counts the writes to it, `outblob` is made of `inblob` when it is read.
struct Kernel {
    provider: &'static str,
    table: Option<Vec<u8>>,
    /// `inblob` and generation of each entry.
    entries: RefCell<BTreeMap<PathBuf, (Vec<u8>, u64)>>,
    made: Cell<usize>,
    /// Names that are taken.
    taken: Cell<usize>,
    /// How often `outblob` is busy or a signal comes, before it answers.
    busy: RefCell<Vec<i32>>,
    /// What `outblob` has, instead of the kernel's.
    answer: Option<io::Result<Vec<u8>>>,
    /// How many writes of somebody else come before `outblob` is read.
    others: u64,
}

const EINTR: i32 = 4;
const EBUSY: i32 = 16;
const EINVAL: i32 = 22;

fn kernel(provider: &'static str) -> Kernel {
    Kernel {
        provider,
        table: None,
        entries: RefCell::default(),
        made: Cell::new(0),
        taken: Cell::new(0),
        busy: RefCell::default(),
        answer: None,
        others: 0,
    }
}

fn error<T>(code: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(code))
}

impl Files for Kernel {
    fn make(&self, path: &Path) -> io::Result<()> {
        if self.provider.is_empty() {
            return error(6);
        }
        if self.taken.get() > 0 {
            self.taken.set(self.taken.get() - 1);
            return error(17);
        }
        self.made.set(self.made.get() + 1);
        match self.entries.borrow_mut().insert(path.to_owned(), (Vec::new(), 0)) {
            None => Ok(()),
            Some(_) => error(17),
        }
    }

    fn read(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        let mut entries = self.entries.borrow_mut();
        let Some((inblob, generation)) = entries.get_mut(path.parent().unwrap()) else { return error(2) };
        let bytes = match path.file_name().unwrap().to_str().unwrap() {
            "provider" => format!("{}\n", self.provider).into_bytes(),
            "generation" => format!("{generation}\n").into_bytes(),
            "auxblob" => match &self.table {
                Some(table) => table.clone(),
                None => return error(2),
            },
            "outblob" => {
                if let Some(code) = self.busy.borrow_mut().pop() {
                    return error(code);
                }
                *generation += self.others;
                match &self.answer {
                    Some(Ok(bytes)) => bytes.clone(),
                    Some(Err(fault)) => return error(fault.raw_os_error().unwrap()),
                    None if inblob.len() == 64 => [b"report over ", &inblob[..]].concat(),
                    None => return error(EINVAL),
                }
            }
            _ => return error(2),
        };
        Ok(bytes.into_iter().take(most).collect())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut entries = self.entries.borrow_mut();
        let Some((inblob, generation)) = entries.get_mut(path.parent().unwrap()) else { return error(2) };
        match path.file_name().unwrap().to_str().unwrap() {
            "inblob" => *inblob = bytes.to_vec(),
            "privlevel" if bytes.len() == 1 => {}
            _ => return error(EINVAL),
        }
        *generation += 1;
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.entries.borrow_mut().remove(path).map_or_else(|| error(2), |_| Ok(()))
    }
}

fn open(kernel: Kernel) -> Tsm<Kernel> {
    Tsm::over(kernel, Path::new("/report")).unwrap()
}

/// Asks, and nothing is left behind.
fn produce(tsm: &Tsm<Kernel>, request: &Request) -> Result<Evidence, ProduceError> {
    let result = tsm.produce(request);
    assert!(tsm.files.entries.borrow().is_empty());
    result
}

fn fault(result: Result<Evidence, ProduceError>) -> (&'static str, DeviceError) {
    match result.unwrap_err() {
        ProduceError::Device { what, why, .. } => (what, why),
        other => panic!("{other}"),
    }
}

fn asked() -> Request {
    Request { report_data: vec![7; 32], ..Request::default() }
}

#[test]
fn reports_bind_what_was_written() {
    for (provider, kind) in [("tdx_guest", Kind::Tdx), ("sev_guest", Kind::SevSnp)] {
        let tsm = open(kernel(provider));
        assert_eq!(tsm.kind(), kind);
        let evidence = produce(&tsm, &asked()).unwrap();
        assert_eq!(evidence.evidence, [&b"report over "[..], &[7; 32], &[0; 32]].concat());
        assert_eq!((evidence.certificates, tsm.files.made.get()), (vec![], 2));
    }
}

#[test]
fn the_certificate_table_comes_along_where_there_is_one() {
    let table = |bytes: &[u8]| Kernel { table: Some(bytes.to_vec()), ..kernel("sev_guest") };
    assert_eq!(produce(&open(table(b"table")), &asked()).unwrap().certificates, [b"table".to_vec()]);
    assert!(produce(&open(table(b"")), &asked()).unwrap().certificates.is_empty());
    let long = open(table(&vec![0; MAX_BLOB + 1]));
    assert_eq!(fault(produce(&long, &asked())), ("auxblob", DeviceError::TooLong { most: MAX_BLOB }));
}

#[test]
fn a_privilege_level_is_a_second_change() {
    let tsm = open(kernel("sev_guest")).with_privilege_level(1);
    assert!(produce(&tsm, &asked()).is_ok());
}

#[test]
fn a_busy_device_is_asked_again() {
    let tsm = open(Kernel { busy: RefCell::new(vec![EBUSY, EINTR, EINTR, EBUSY]), ..kernel("tdx_guest") });
    assert!(produce(&tsm, &asked()).is_ok());
    // Signals without end: the last one is told.
    let tsm = open(Kernel { busy: RefCell::new(vec![EINTR; 1000]), ..kernel("tdx_guest") });
    let (what, why) = fault(produce(&tsm, &asked()));
    assert!(matches!((what, why), ("outblob", DeviceError::System { code: Some(EINTR), .. })));
}

#[test]
fn races_and_wrong_answers_are_refused_and_leave_nothing() {
    let tdx = || kernel("tdx_guest");
    let raced = open(Kernel { others: 1, ..tdx() });
    assert_eq!(fault(produce(&raced, &asked())), ("generation", DeviceError::Raced { expected: 1, got: 2 }));
    let long = open(Kernel { answer: Some(Ok(vec![1; MAX_BLOB + 1])), ..tdx() });
    assert_eq!(fault(produce(&long, &asked())), ("outblob", DeviceError::TooLong { most: MAX_BLOB }));
    let empty = open(Kernel { answer: Some(Ok(vec![])), ..tdx() });
    assert_eq!(fault(produce(&empty, &asked())), ("outblob", DeviceError::Empty));
    let refused = open(Kernel { answer: Some(error(EINVAL)), ..tdx() });
    let (what, why) = fault(produce(&refused, &asked()));
    assert!(matches!((what, why), ("outblob", DeviceError::System { code: Some(EINVAL), .. })));
    let both = Request { nonce: vec![1], ..asked() };
    assert_eq!(produce(&open(tdx()), &both), Err(ProduceError::OneField));
    let long = Request { report_data: vec![1; 65], ..Request::default() };
    let expected = ProduceError::TooLong { field: "report data", most: 64, got: 65 };
    assert_eq!(produce(&open(tdx()), &long), Err(expected));
}

#[test]
fn a_provider_must_be_there_and_be_known() {
    let missing = Tsm::over(kernel(""), Path::new("/report")).err().unwrap();
    assert!(missing.to_string().starts_with("/report: create an entry:"), "{missing}");
    let unknown = kernel("arm_cca_guest");
    let error = Tsm::over(unknown, Path::new("/report")).err().unwrap();
    assert!(error.to_string().ends_with("provider: an unknown answer: `arm_cca_guest`"), "{error}");
}

#[test]
fn names_that_are_taken_are_passed_over() {
    let tsm = open(kernel("tdx_guest"));
    tsm.files.taken.set(5);
    assert!(produce(&tsm, &asked()).is_ok());
    tsm.files.taken.set(1000);
    assert!(matches!(fault(produce(&tsm, &asked())).1, DeviceError::System { code: Some(17), .. }));
}

#[test]
fn the_kernels_files_are_read_up_to_a_limit_and_never_made() {
    let folder = tempfile::tempdir().unwrap();
    let entry = folder.path().join("entry");
    ConfigFs.make(&entry).unwrap();
    assert_eq!(ConfigFs.make(&entry).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    let file = entry.join("inblob");
    assert_eq!(ConfigFs.write(&file, b"x").unwrap_err().kind(), io::ErrorKind::NotFound);
    std::fs::write(&file, b"0123456789").unwrap();
    ConfigFs.write(&file, b"abc").unwrap();
    assert_eq!(ConfigFs.read(&file, 5).unwrap(), b"abc34");
    // A folder with files in it is not configfs's: there the files are no obstacle.
    assert!(ConfigFs.remove(&entry).is_err());
    std::fs::remove_file(&file).unwrap();
    ConfigFs.remove(&entry).unwrap();
}
