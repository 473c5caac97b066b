#![allow(clippy::unwrap_used)]
use hallmark_attestation::*;
use hallmark_receipt::check::Cause as _;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let kind = Kind::from_name(&args[1]).unwrap();
    let at: u64 = args[2].parse().unwrap();
    let policy = if args[3].is_empty() {
        Policy::genuine()
    } else {
        Policy::parse(&args[3].replace("|", "\n")).unwrap()
    };
    let evidence = std::fs::read(&args[4]).unwrap();
    let mut files = vec![];
    let mut log = None;
    for a in &args[5..] {
        if let Some(l) = a.strip_prefix("log=") {
            log = Some(std::fs::read(l).unwrap());
            continue;
        }
        if std::path::Path::new(a).is_dir() {
            for e in std::fs::read_dir(a).unwrap() {
                let p = e.unwrap().path();
                if !p.to_str().unwrap().contains("quote.dat") {
                    files.push(std::fs::read(p).unwrap());
                }
            }
        } else {
            files.push(std::fs::read(a).unwrap());
        }
    }
    let refs: Vec<&[u8]> = files.iter().map(|f| &f[..]).collect();
    let input =
        Input { evidence: &evidence, collateral: &refs, event_log: log.as_deref(), ..Input::default() };
    let report = verify(kind, &input, &Context::new(at, &policy));
    for c in &report.checks {
        println!("  {:<14} {:?} {:?}", c.title, c.outcome, c.got);
    }
    println!(
        "{} {:?}\n",
        args[4],
        match &report.decision {
            Decision::Accepted(_) => "ACCEPTED".to_owned(),
            d => format!("{d:?}"),
        }
    );
    for (id, r) in report.reasons() {
        println!("   {id} {}: {r}", r.code());
    }
}
