use super::{answer::Answer, asked::Asked, problem::Problem};
use crate::show::info::StoreInfo;

/// `GET /v1/info`
pub(crate) async fn info(asked: Asked) -> Result<Answer, Problem> {
    let url = asked.app.url.clone();
    asked
        .read(String::new, move |store, _| {
            let told = StoreInfo::of(store, &url)?;
            Ok((Some(told.json().to_string()), told.checkpoint.position))
        })
        .await
}
