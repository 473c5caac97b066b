#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use hallmark_attestation::x509::write::{Entity, Key, Span, authority_extensions, name};

use super::*;

const AT: u64 = 1_770_000_000;
const DAY: u64 = 86_400;

/// A list that `number` tells from others, fetched at `fetched`.
fn item(url: &str, fetched: u64) -> Item {
    let key = Key::p384(&[7; 48]).unwrap();
    let authority = Entity { name: name("an authority"), serial: vec![1], key };
    let span = Span { from: AT - DAY, to: AT + 7 * DAY };
    let issuer = authority.template(&authority, span, authority_extensions()).sign(&authority.key);
    let list = authority.revocation_list(&[&fetched.to_be_bytes()], span);
    let need = Need::Crl { url: url.to_owned(), issuer: issuer.clone() };
    Item::new(need, list, vec![issuer], fetched).unwrap()
}

fn cache() -> (tempfile::TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path().join("deep").join("down"));
    (folder, cache)
}

#[test]
fn what_is_kept_is_found_until_it_is_old_or_expires() {
    let (_folder, cache) = cache();
    let item = item("http://a.example/a.crl", AT);
    assert_eq!(cache.load(item.need()), None);
    cache.store(&item).unwrap();
    assert_eq!(cache.load(item.need()).as_ref(), Some(&item));
    assert_eq!(cache.items(), std::slice::from_ref(&item));
    for (at, fresh) in [(AT, true), (AT + DAY, true), (AT + DAY + 1, false), (AT - 1, false)] {
        assert_eq!(cache.is_fresh(&item, at), fresh, "{at}");
    }
    let patient = Cache { max_age: Duration::from_secs(365 * DAY), ..cache.clone() };
    for (at, fresh) in [(AT + 7 * DAY, true), (AT + 7 * DAY + 1, false)] {
        assert_eq!(patient.is_fresh(&item, at), fresh, "{at}");
    }
    cache.remove(item.need());
    assert_eq!(cache.load(item.need()), None);
}

#[test]
fn a_kill_or_a_failure_at_any_step_leaves_the_old_item_or_the_new() {
    let steps = [Step::Folder, Step::Create, Step::Half, Step::Written, Step::Sync, Step::Rename];
    for had_one in [false, true] {
        for last in steps {
            for kill in [false, true] {
                let (_folder, cache) = cache();
                let (old, new) = (item("http://a.example/a.crl", AT), item("http://a.example/a.crl", AT + 1));
                if had_one {
                    cache.store(&old).unwrap();
                }
                let reached = Cell::new(false);
                let cut = |step: Step| match step == last {
                    false => Ok(()),
                    // As after a kill, nobody cleans up.
                    true if kill => panic!("killed"),
                    true => {
                        reached.set(true);
                        Err(io::Error::other("no room"))
                    }
                };
                let result = catch_unwind(AssertUnwindSafe(|| cache.store_by_steps(&new, &cut)));
                assert!(result.is_err() || result.is_ok_and(|result| result.is_err()), "{last:?}");
                assert!(kill || reached.get(), "{last:?}");
                let found = cache.load(old.need());
                let expected = if had_one { Some(&old) } else { None };
                let renamed = last == Step::Rename && found.as_ref() == Some(&new);
                assert!(renamed || found.as_ref() == expected, "{last:?}: {found:?}");
                // And the next write is not disturbed.
                cache.store(&new).unwrap();
                assert_eq!(cache.load(new.need()), Some(new));
            }
        }
    }
}

#[test]
fn a_corrupt_file_counts_as_none() {
    let (_folder, cache) = cache();
    let item = item("http://a.example/a.crl", AT);
    cache.store(&item).unwrap();
    let path = cache.path(item.need());
    let good = fs::read(&path).unwrap();
    // The base64 of the content included: what is changed there would parse.
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert_eq!(cache.load(item.need()), None, "byte {at}");
    }
    for bad in [&good[..good.len() - 1], &good[..64], b"", &[&good[..], b"\n"].concat()] {
        fs::write(&path, bad).unwrap();
        assert_eq!(cache.load(item.need()), None);
    }
    // Another item's file under this name.
    let other = cache.path(self::item("http://b.example/b.crl", AT).need());
    fs::write(&other, &good).unwrap();
    assert_eq!(cache.load(self::item("http://b.example/b.crl", AT).need()), None);
}

#[test]
fn the_oldest_items_make_room_and_abandoned_files_go() {
    let (_folder, mut cache) = cache();
    let items: Vec<_> = (0..5).map(|number| item(&format!("http://a.example/{number}.crl"), AT)).collect();
    cache.store(&items[0]).unwrap();
    let size = fs::metadata(cache.path(items[0].need())).unwrap().len();
    cache.max_bytes = 3 * size;
    let abandoned = cache.folder.join(format!("{TEMPORARY}0123"));
    let unfinished = cache.folder.join(format!("{TEMPORARY}4567"));
    fs::write(&abandoned, b"half").unwrap();
    fs::write(&unfinished, b"half").unwrap();
    let long_ago = SystemTime::now() - ABANDONED - Duration::from_secs(1);
    File::options().write(true).open(&abandoned).unwrap().set_modified(long_ago).unwrap();
    for (number, item) in items.iter().enumerate().skip(1) {
        cache.store(item).unwrap();
        // Files of one instant have no order.
        let time = SystemTime::now() - Duration::from_secs(100 - number as u64);
        File::options().write(true).open(cache.path(item.need())).unwrap().set_modified(time).unwrap();
        let bytes: u64 = cache.files().iter().map(|(_, entry)| entry.metadata().unwrap().len()).sum();
        assert!(bytes <= cache.max_bytes);
    }
    assert!(cache.load(items[4].need()).is_some());
    assert_eq!(cache.items().len(), 3);
    assert!(!abandoned.exists() && unfinished.exists());
}

#[test]
fn several_may_write_and_read_one_folder() {
    let (_folder, cache) = cache();
    let versions: Vec<_> = (0..4).map(|number| item("http://a.example/a.crl", AT + number)).collect();
    cache.store(&versions[0]).unwrap();
    thread::scope(|scope| {
        for version in &versions {
            scope.spawn(|| (0..25).for_each(|_| cache.store(version).unwrap()));
        }
        for _ in 0..200 {
            let found = cache.load(versions[0].need()).expect("a whole item at any time");
            assert!(versions.contains(&found));
        }
    });
    assert_eq!(cache.items().len(), 1);
}
