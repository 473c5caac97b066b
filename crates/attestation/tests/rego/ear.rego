# A policy of one's own in the style of Confidential Containers: trust claims, affirming if a rule below says so.
package policy

import rego.v1

default executables := 33

default hardware := 97

default configuration := 36

default file_system := 0

trust_claims := {
	"executables": executables,
	"hardware": hardware,
	"configuration": configuration,
	"file-system": file_system,
}

##### TDX
executables := 3 if input.tdx.quote.body.rtmr_1 in query_reference_value("rtmr_1")

hardware := 2 if {
	input.tdx.quote.header.tee_type == "81000000"
	input.tdx.quote.header.vendor_id == "939a7233f79c4ca9940a0db3957f0607"
	input.tdx.quote.body.mr_td in query_reference_value("mr_td")
	input.tdx.tcb_status == "UpToDate"
	input.tdx.collateral_expiration_status == "0"
	time.parse_rfc3339_ns(input.tdx.tcb_date) >= time.parse_rfc3339_ns(query_reference_value("min_tcb_date"))
	count({id | some id in input.tdx.advisory_ids} & {"INTEL-SA-00000"}) == 0
}

configuration := 2 if {
	input.tdx.td_attributes.debug == false
	input.tdx.quote.body.xfam in query_reference_value("xfam")
}

##### SGX
executables := 3 if input.sgx.body.mr_enclave in query_reference_value("mr_enclave")

hardware := 2 if {
	input.sgx.header.att_key_data_0 == "00000000"
	input.sgx.body.mr_signer in query_reference_value("mr_signer")
	input.sgx.tcb_status == "UpToDate"
}

configuration := 2 if input.sgx.body["attributes.flags"] in query_reference_value("flags")

##### SEV-SNP
executables := 3 if input.snp.evidence.measurement in query_reference_value("snp_launch_measurement")

hardware := 2 if {
	input.snp.evidence.reported_tcb.bootloader in query_reference_value("snp_bootloader")
	input.snp.evidence.reported_tcb.microcode in query_reference_value("snp_microcode")
	input.snp.evidence.reported_tcb.snp in query_reference_value("snp_snp_svn")
	input.snp.evidence.reported_tcb.tee in query_reference_value("snp_tee_svn")
}

configuration := 2 if {
	input.snp.evidence.policy.debug_allowed == false
	input.snp.evidence.policy.migrate_ma_allowed == false
	input.snp.evidence.plat_info.smt_enabled == query_reference_value("snp_smt_enabled")
	input.snp.evidence.policy.abi_major == query_reference_value("snp_guest_abi_major")
}

else := 3 if {
	input.snp.evidence.policy.debug_allowed == false
}

##### Nitro
executables := 3 if input.nitro.pcrs["0"] in query_reference_value("pcr0")

hardware := 2 if startswith(input.nitro.module_id, query_reference_value("module"))

configuration := 2 if input.nitro.digest == "SHA384"

##### NVIDIA
executables := 3 if input.nvidia.measurements["1"] in query_reference_value("block_1")

hardware := 2 if input.nvidia.vbios_version in query_reference_value("vbios")

configuration := 2 if input.nvidia.config.driver_version in query_reference_value("driver")
