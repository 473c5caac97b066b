//! Policy files.
#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn the_template_asks_for_what_genuine_asks_for() {
    let template = Policy::parse(TEMPLATE).unwrap();
    assert_eq!(template, Policy { name: "mine".to_owned(), ..Policy::genuine() });
}

#[test]
fn releases_name_registers_of_their_kind() {
    let policy =
        Policy::parse("name = 'a'\n[[nitro.measurements]]\nname = '1'\npcr0 = '00ff'\npcr31 = ''").unwrap();
    let registers = &policy.nitro.measurements[0].registers;
    assert_eq!(registers.get(&Register::Pcr(0)), Some(&vec![0, 0xff]));
    assert_eq!(registers.get(&Register::Pcr(31)), Some(&vec![]));
}

#[test]
fn what_a_policy_does_not_have_refuses_the_file() {
    for (text, want) in [
        ("", "`name`: expected a text"),
        ("name = ''", "`name`: expected a text"),
        ("name = 'a'\nnitr = {}", "`nitr` is no key of a policy"),
        ("name = 'a'\n[nitro]\nrequire = ['tea']", "`tea` is no check"),
        ("name = 'a'\n[nitro]\nmax_age = 3", "unknown field `max_age`"),
        ("name = 'a'\n[nitro]\nmax_age_seconds = -3", "`max_age_seconds`"),
        ("name = 'a'\n[[nitro.measurements]]\nname = '1'", "release `1` names no register"),
        ("name = 'a'\n[[nitro.measurements]]\nname = '1'\nmrtd = '00'", "`mrtd` is no register of nitro"),
        ("name = 'a'\n[[nitro.measurements]]\nname = '1'\npcr32 = '00'", "`pcr32` is no register of nitro"),
        ("name = 'a'\n[[nitro.measurements]]\nname = '1'\npcr01 = '00'", "`pcr01` is no register of nitro"),
        ("name = 'a'\n[sev-snp]\nforbid_platform = ['tea']", "unknown variant `tea`"),
        ("name = 'a'\n[sev-snp]\nkeys = ['none']", "unknown variant `none`"),
        ("name = 'a'\n[sev-snp]\nminimum_tcb.milan = { fmt = 1 }", "unknown field `fmt`"),
        ("name = 'a'\n[[nitro.measurements]]\nname = '1'\nmeasurement = '00'", "no register of nitro"),
        ("name = 'a'\n[[nitro.measurements]]\nname = '1'\npcr0 = 'FF'", "`pcr0`: not lower-case"),
    ] {
        let message = Policy::parse(text).unwrap_err().to_string();
        assert!(message.contains(want), "{text}: {message}");
    }
}
