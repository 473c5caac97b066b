//! The story goes as told.

use super::Place;

#[test]
fn the_demo_goes_as_told() {
    let place = Place::new();
    let run = place.run(&["demo", "--dir", "d", "--json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let result: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(result["ok"], true);
    assert!(result["seconds"].as_f64().unwrap() < 30.0, "{}", result["seconds"]);
    let checks = result["checks"].as_array().unwrap();
    let exits: Vec<i64> = checks.iter().map(|check| check["exit"].as_i64().unwrap()).collect();
    // Four answers, five forgeries, and an environment that nobody asked for and somebody did.
    assert_eq!(exits, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0]);
    assert!(!place.home().exists(), "the demo touched the user's own home");
    // What it tells people to try works.
    assert_eq!(place.run(&["verify", "d/digits-cnn.receipt.json"]).code, 0);
    assert_eq!(place.run(&["verify", "d/forged-resigned.receipt.json"]).code, 1);
}
