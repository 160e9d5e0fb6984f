pub struct CaseResult;
pub struct Report;
pub fn run_cases() {}
