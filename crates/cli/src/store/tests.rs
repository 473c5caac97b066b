use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const MANIFEST: &[u8] = b"{}";

fn model() -> (Digest, Vec<(String, Vec<u8>)>) {
    let files = vec![("model.onnx".to_owned(), vec![7; 100]), ("data/w.bin".to_owned(), vec![1; 50])];
    (Digest::of(&[MANIFEST]), files)
}

fn home(root: &Path) -> Home {
    Home::new(root.to_owned(), Duration::ZERO)
}

/// What a reader must be able to rely on, whatever happened before.
fn check(home: &Home) {
    let models = home.models().unwrap();
    for id in &models {
        let folder = home.model_folder(id);
        assert_eq!(fs::read(folder.join("manifest.json")).unwrap(), MANIFEST);
        assert_eq!(fs::read(folder.join("files/model.onnx")).unwrap().len(), 100);
        assert_eq!(fs::read(folder.join("files/data/w.bin")).unwrap().len(), 50);
    }
    for (_, id) in home.names().unwrap() {
        assert!(models.contains(&id), "a name that stands for nothing");
    }
    for name in home.list(Area::Receipts).unwrap() {
        let bytes = home.get(Area::Receipts, &name).unwrap().unwrap();
        assert!(bytes == [1; 64] || bytes == [2; 64], "a torn document");
    }
}

fn story(home: &Home) -> Result<(), StoreError> {
    let (id, files) = model();
    let writer = home.write()?;
    writer.put(Area::Receipts, "r", &[1; 64])?;
    writer.add_model(&id, MANIFEST, &files, Some("m"))?;
    writer.put(Area::Receipts, "r", &[2; 64])
}

#[test]
fn a_failure_at_any_step_leaves_a_home_that_reads() {
    // Hundreds of flushes: a folder in memory, where there is one.
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let mut steps = 0;
    loop {
        let folder = tempfile::tempdir_in(&base).unwrap();
        let root = folder.path().join("home");
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        // From the chosen step on nothing works any more, as after a kill.
        let disk = Disk::with_hook(move |_| {
            let dead = counter.fetch_add(1, Ordering::Relaxed) >= steps;
            if dead { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        });
        let result = story(&Home::on(disk, root.clone(), Duration::ZERO));
        check(&home(&root));
        if result.is_ok() {
            break;
        }
        assert!(matches!(result, Err(StoreError::Disk { source: DiskError::Full { .. }, .. })));
        story(&home(&root)).unwrap();
        check(&home(&root));
        assert_eq!(home(&root).get(Area::Receipts, "r").unwrap().unwrap(), [2; 64]);
        let leftovers = fs::read_dir(root.join("models")).unwrap().count();
        assert_eq!(leftovers, 1, "step {steps} left something behind");
        steps += 1;
    }
    assert!(steps > 30, "only {steps} steps were tried");
}

#[test]
fn leftovers_of_a_kill_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let home = home(folder.path());
    let half = folder.path().join("models/.hallmark-dead/files");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("model.onnx"), b"half").unwrap();
    assert_eq!(home.models().unwrap(), []);
    drop(home.write().unwrap());
    assert!(!half.exists());
}

#[test]
fn one_process_writes_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let home = home(folder.path());
    let writer = home.write().unwrap();
    assert!(matches!(home.write(), Err(StoreError::Busy { seconds: 0, .. })));
    drop(writer);
    assert!(home.write().is_ok());
}

#[test]
fn names_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let home = home(folder.path());
    let (id, files) = model();
    let writer = home.write().unwrap();
    for bad in
        ["", "../x", "a/b", ".x", "-x", "model.onnx", &id.to_string().replace('0', "a"), &"x".repeat(65)]
    {
        let result = writer.add_model(&id, MANIFEST, &files, Some(bad));
        assert!(matches!(result, Err(StoreError::Name { .. })), "{bad}");
    }
    assert_eq!(home.models().unwrap(), []);
    writer.add_model(&id, MANIFEST, &files, Some("m")).unwrap();
    writer.add_model(&id, MANIFEST, &files, Some("m")).unwrap();
    let other = Digest::of(&[b"other"]);
    let taken = writer.add_model(&other, MANIFEST, &files, Some("m"));
    assert!(matches!(taken, Err(StoreError::NameTaken { id: got, .. }) if got == id));
    assert_eq!(home.models().unwrap(), [id]);
}

#[test]
fn damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let home = home(folder.path());
    fs::create_dir_all(folder.path().join("names")).unwrap();
    fs::write(folder.path().join("names/m"), b"not an id").unwrap();
    assert!(matches!(home.id_of("m"), Err(StoreError::Damaged { .. })));
    let file = self::home(&folder.path().join("names/m"));
    assert!(matches!(file.models(), Err(StoreError::Disk { .. })));
    assert!(matches!(file.write(), Err(StoreError::Disk { .. })));
}

#[cfg(unix)]
#[test]
fn keys_and_receipts_are_for_the_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("home");
    let home = home(&root);
    let writer = home.write().unwrap();
    writer.put(Area::Keys, "k", b"secret").unwrap();
    writer.put(Area::Receipts, "r", b"openings").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&root.join("keys")), 0o700);
    assert_eq!(mode(&home.path(Area::Keys, "k")), 0o600);
    assert_eq!(mode(&home.path(Area::Receipts, "r")), 0o600);
}
