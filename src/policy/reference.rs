pub fn reference() {}
pub fn schema() {}
