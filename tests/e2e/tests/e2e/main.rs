//! The promises of the whole, kept by the real binary: real folders, networks, kernels and faults.

mod clocks;
mod cluster_document;
mod cuts;
mod demo;
mod drive;
mod drive_state;
mod epochs;
mod faults;
mod hostile_master;
mod kernel_mounting;
mod kernel_reading;
mod kernel_restarts;
mod kernel_restoring;
mod kills;
mod office_day;
mod old_state;
mod one_machine;
mod sequences;
mod two_stations;
