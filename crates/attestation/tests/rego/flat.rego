# The same in the older style: rules alone, `data.reference`, the flat claims of SEV-SNP, which are texts.
package policy

import future.keywords.if
import future.keywords.in

default executables = 33

default hardware = 97

executables = 3 if {
	input.snp.measurement in data.reference.measurement
}

hardware = 2 if {
	input.snp.reported_tcb_bootloader in data.reference.tcb_bootloader
	input.snp.reported_tcb_microcode in data.reference.tcb_microcode
	input.snp.reported_tcb_snp in data.reference.tcb_snp
	input.snp.reported_tcb_tee in data.reference.tcb_tee
}

configuration = 2 {
	input.snp.platform_smt_enabled in data.reference.smt_enabled
	input.snp.platform_tsme_enabled in data.reference.tsme_enabled
	input.snp.policy_abi_major in data.reference.abi_major
	input.snp.policy_abi_minor in data.reference.abi_minor
	input.snp.policy_single_socket in data.reference.single_socket
	input.snp.policy_smt_allowed in data.reference.smt_allowed
	input.snp.policy_debug_allowed == "false"
	input.snp.policy_migrate_ma == "false"
}
